"""What all tasks' data share: facts that travel, exact resuming under a trainer, and one line for a new task."""

import pickle

import pytest
import torch
from jsonargparse import ArgumentParser
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

import tfzoo.data
from tfzoo.data.datamodule import TaskData
from tfzoo.data.facts import Facts
from tfzoo.data.text_classification import TextClassificationData, TextFacts

ROWS = [{"text": f"text {i} " * (i % 4 + 1), "label": "ab"[i % 2]} for i in range(60)]


class Listener(LightningModule):
    """Notes which texts it trains on, and in which order."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.heard: list[tuple[str, ...]] = []

    def training_step(self, batch, _):
        self.heard.append(tuple(batch.text))
        return self.weight * batch.tokens.float().mean()

    def validation_step(self, batch, _):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


def data(folder: str, cache: str, **options) -> TextClassificationData:
    return TextClassificationData(
        folder, tokenizer="bytes", batch_tokens=256, cache_dir=cache, **options
    )


def trainer(steps: int, folder, **options) -> Trainer:
    return Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=folder,
        num_sanity_val_steps=0,
        **options,
    )


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="plain"),
        pytest.param({"workers": 1}, id="workers", marks=pytest.mark.slow),
        pytest.param({"streaming": True, "max_length": 99, "shuffle_buffer": 16}, id="streaming"),
    ],
)
@pytest.mark.parametrize("end_of_epoch", [False, True])
def test_a_run_stopped_and_resumed_hears_what_one_run_hears(
    write, tmp_path, cache, options, end_of_epoch
):
    folder = write(train=ROWS, validation=ROWS[:8])
    batches = len([*data(folder, cache, **options).train_dataloader()])
    stop = batches if end_of_epoch else batches + 2
    whole = Listener()
    trainer(3 * batches, tmp_path, enable_checkpointing=False).fit(
        whole, datamodule=data(folder, cache, **options)
    )
    saved = ModelCheckpoint(tmp_path, every_n_train_steps=stop, save_top_k=-1)
    first = Listener()
    trainer(stop, tmp_path, callbacks=[saved]).fit(first, datamodule=data(folder, cache, **options))
    second = Listener()
    trainer(3 * batches, tmp_path, enable_checkpointing=False).fit(
        second, datamodule=data(folder, cache, **options), ckpt_path=saved.best_model_path
    )
    assert len(whole.heard) == 3 * batches
    assert len(set(whole.heard)) > 2 * batches, "each epoch in an order of its own"
    assert first.heard + second.heard == whole.heard


def test_facts_come_once_and_survive_a_checkpoint(write, tmp_path, cache):
    ours = data(write(train=ROWS), cache)
    facts = ours.facts
    ours.prepare_data()
    ours.setup("fit")
    assert ours.facts is facts
    torch.save(facts.to_dict(), tmp_path / "facts.pt")
    assert TextFacts.from_dict(torch.load(tmp_path / "facts.pt", weights_only=True)) == facts
    with pytest.raises(ValueError, match="TextFacts needs labels, longest, pairs, tokenizer, but"):
        TextFacts.from_dict({"labels": []})


def test_facts_know_a_network_that_cannot_serve(write, cache):
    facts = data(write(train=ROWS), cache).facts
    facts.check_same(facts)
    with pytest.raises(ValueError, match="labels do not match"):
        facts.check_same(TextFacts(facts.tokenizer, ("a", "c"), 9, False))


def test_data_travels_to_processes_without_its_trainer(write, cache):
    ours = data(write(train=ROWS), cache)
    _ = ours.train_dataloader()
    ours.trainer = lambda: "not picklable"
    again = pickle.loads(pickle.dumps(ours))
    assert again.trainer is None
    assert again.facts == ours.facts


def test_every_task_is_found_by_name_with_its_arguments_explained(capsys):
    for name in ("TranslationData", "TextClassificationData", "GenerationData"):
        assert issubclass(getattr(tfzoo.data, name), TaskData)
    assert tfzoo.data.Facts is Facts
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = tfzoo.data.Nothing
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(TaskData, "data")
    parsed = parser.parse_args(["--data=ImageClassificationData", "--data.path=x", "--data.size=8"])
    assert parsed.data.init_args.size == 8
    assert parsed.data.init_args.validation_split == "validation"
    with pytest.raises(SystemExit):
        parser.parse_args(["--data.help=GenerationData"])
    shown = capsys.readouterr().out
    assert "tokens of a window" in shown
    assert "an embedded set" in shown
