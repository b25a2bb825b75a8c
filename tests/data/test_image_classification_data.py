"""Images become normalised squares; what is random about them follows from seed, epoch and sample alone."""

import random
from pathlib import Path

import pytest
import torch
from PIL import Image

from tfzoo.data.image_classification import ImageClassificationData, ImageFacts


@pytest.fixture
def grey(pictures) -> str:
    return pictures()


def images(loader) -> torch.Tensor:
    return torch.cat([batch.images for batch in loader])


def test_training_images_are_normalised_and_each_comes_once(grey, cache):
    data = ImageClassificationData(grey, cache_dir=cache, batch_size=8)
    facts = data.facts
    assert (facts.labels, facts.channels, facts.size) == (("cat", "dog"), 1, 12)
    seen = images(data.train_dataloader())
    assert seen.shape == (27, 1, 12, 12)
    assert seen.mean().abs() < 1e-2
    assert (seen.std() - 1).abs() < 1e-2
    assert len({tuple(one.flatten().tolist()) for one in seen}) == 27
    assert [len(batch.labels) for batch in data.val_dataloader()] == [3]
    assert ImageFacts.from_dict(facts.to_dict()) == facts


def test_the_transform_of_the_facts_is_that_of_evaluation(grey, cache):
    data = ImageClassificationData(grey, cache_dir=cache, affine=20)
    transform, batch = data.facts.transform(), next(iter(data.val_dataloader()))
    files = [transform(Image.open(file)) for file in Path(grey).rglob("*.png")]
    for one in batch.images:
        assert any(torch.allclose(one, other, atol=1e-5) for other in files)
    assert transform(Image.new("RGB", (30, 20))).shape == (1, 12, 12)


AUGMENTED = {
    "affine": {"affine": 15},
    "crop and flip": {"crop": True, "flip": 0.5},
    "timm": {"auto_augment": "rand-m9-mstd0.5-inc1", "erase": 0.5},
}


@pytest.mark.parametrize("options", AUGMENTED.values(), ids=AUGMENTED)
@pytest.mark.parametrize("workers", [0, 1])
def test_augmentation_follows_seed_epoch_and_sample_alone(grey, cache, options, workers):
    if workers and "affine" not in options:
        pytest.skip("one augmentation shows it")
    data = ImageClassificationData(grey, cache_dir=cache, workers=workers, **options)
    before = torch.get_rng_state(), random.getstate()
    loader = data.train_dataloader()
    epochs = [images(loader) for _ in range(2)]
    if not workers:  # the process's own chances are left alone
        assert torch.equal(torch.get_rng_state(), before[0])
        assert random.getstate() == before[1]
    torch.manual_seed(5)
    again = ImageClassificationData(grey, cache_dir=cache, **options).train_dataloader()
    assert all(torch.equal(images(again), epoch) for epoch in epochs)
    plain = images(ImageClassificationData(grey, cache_dir=cache).train_dataloader())
    assert not torch.equal(epochs[0], plain)
    assert epochs[0].shape == plain.shape


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("options", [{}, {"crop": True, "auto_augment": "augmix-m5-w4-d2"}])
def test_images_of_any_size_come_out_square(pictures, cache, mode, options):
    folder = pictures(size=(20, 14), mode=mode)
    tall = Image.new(mode, (9, 31))
    tall.save(Path(folder) / "train" / "cat" / "tall.png")
    data = ImageClassificationData(folder, size=10, cache_dir=cache, **options)
    assert images(data.train_dataloader()).shape[1:] == (1 if mode == "L" else 3, 10, 10)
    assert ImageClassificationData(folder, cache_dir=cache).facts.size == 14


def test_channels_and_statistics_may_be_given(grey, cache):
    data = ImageClassificationData(
        grey, channels=3, mean=[0.5, 0.5, 0.5], std=[0.25, 0.25, 0.25], cache_dir=cache
    )
    seen = images(data.train_dataloader())
    assert seen.shape[1] == 3
    assert torch.equal(seen[:, 0], seen[:, 1])
    assert data.facts.mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("name", ["cat/0.png", "dog/1.png"])
def test_a_broken_image_is_named(grey, cache, name, streaming):
    file = Path(grey) / "train" / name
    file.write_bytes(file.read_bytes()[:90])
    with pytest.raises(ValueError, match=rf"{name} is missing, broken or no image"):
        list(ImageClassificationData(grey, cache_dir=cache, streaming=streaming).train_dataloader())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"channels": 2}, "channels must be 1"),
        ({"mean": [0.5, 0.5]}, "mean needs 1 values"),
        ({"flip": 2}, "flip is a probability"),
        ({"affine": -1}, "affine must be between"),
        ({"auto_augment": "nonsense"}, "auto_augment must be a policy of timm"),
        ({"image": "label"}, "column 'label' cannot be the image"),
    ],
)
def test_mistakes_are_named(grey, cache, options, says):
    with pytest.raises(ValueError, match=says):
        ImageClassificationData(grey, cache_dir=cache, **options).train_dataloader()
