"""A checkpoint is whole or is not there; what is none is said to be none, and never executed."""

import errno
import os
import pickle
import subprocess
import zipfile
from pathlib import Path

import pytest
import torch

from tfzoo.tracking.runs import Run
from tfzoo.training.checkpoint import WholeCheckpointIO, newest_sound, read_checkpoint

VERSION = {"pytorch-lightning_version": "2.6"}
OLD = {"state_dict": {"weight": torch.arange(3.0)}, "global_step": 1, **VERSION}
NEW = {"state_dict": {"weight": torch.arange(300_000.0)}, "global_step": 2, **VERSION}


@pytest.fixture
def kept(tmp_path) -> Path:
    """A checkpoint that was saved without trouble."""
    path = tmp_path / "checkpoints" / "last.ckpt"
    WholeCheckpointIO().save_checkpoint(OLD, path)
    return path


def still_there(path: Path) -> None:
    assert read_checkpoint(path)["global_step"] == 1
    assert os.listdir(path.parent) == [path.name]  # noqa: PTH208 - hidden ones as well


def test_it_comes_back(kept):
    found = WholeCheckpointIO().load_checkpoint(kept)
    assert torch.equal(found.pop("state_dict")["weight"], OLD["state_dict"]["weight"])
    assert found == {key: value for key, value in OLD.items() if key != "state_dict"}
    still_there(kept)


def test_a_new_one_takes_the_old_ones_place(kept):
    WholeCheckpointIO().save_checkpoint(NEW, kept)
    assert read_checkpoint(kept)["global_step"] == 2
    assert os.listdir(kept.parent) == ["last.ckpt"]  # noqa: PTH208


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EIO, "Input/output error"),
        RuntimeError(
            "[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0, PytorchStreamWriter failed"
        ),
    ],
    ids=["full", "broken", "full, in torch's words"],
)
def test_a_failing_write_keeps_the_previous_one(kept, monkeypatch, error):
    def fail(checkpoint, file):
        file.write(b"half of it")
        raise error

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(
        OSError, match=r"cannot save the checkpoint .*last\.ckpt: .*; the previous one is kept"
    ):
        WholeCheckpointIO().save_checkpoint(NEW, kept)
    with pytest.raises(OSError, match="nothing was written"):
        WholeCheckpointIO().save_checkpoint(NEW, kept.with_name("best.ckpt"))
    still_there(kept)


def test_a_kill_while_saving_keeps_the_previous_one(kept, monkeypatch):
    def die(checkpoint, file):
        file.write(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", die)
    with pytest.raises(KeyboardInterrupt):
        WholeCheckpointIO().save_checkpoint(NEW, kept)
    still_there(kept)


def test_a_fault_of_ours_is_not_taken_for_a_full_disk(kept, monkeypatch):
    monkeypatch.setattr(torch, "save", lambda *_: (_ for _ in ()).throw(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        WholeCheckpointIO().save_checkpoint(NEW, kept)
    still_there(kept)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no command mount")
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_keeps_the_previous_one(small_disk):
    path = small_disk / "last.ckpt"
    WholeCheckpointIO().save_checkpoint(OLD, path)
    with pytest.raises(OSError, match=r"cannot save .*last\.ckpt: .*; the previous one is kept"):
        WholeCheckpointIO().save_checkpoint(NEW, path)
    still_there(path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        OSError, match=r"cannot save the checkpoint .*file/a/last\.ckpt: Not a directory"
    ):
        WholeCheckpointIO().save_checkpoint(OLD, tmp_path / "file" / "a" / "last.ckpt")


class Bomb:
    """A value that creates a file when a careless reader unpickles it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_nothing_in_a_checkpoint_is_executed(tmp_path):
    mark = tmp_path / "mark"
    zipped, bare, old = tmp_path / "zip.ckpt", tmp_path / "bare.ckpt", tmp_path / "old.ckpt"
    torch.save({"state_dict": Bomb(mark)}, zipped)
    torch.save({"state_dict": Bomb(mark)}, old, _use_new_zipfile_serialization=False)
    bare.write_bytes(pickle.dumps({"state_dict": Bomb(mark)}))
    for path in (zipped, bare, old):
        with pytest.raises(ValueError, match=path.name):
            read_checkpoint(path)
        with pytest.raises(ValueError, match=path.name):
            # Also where the caller, as Lightning may, asks for it.
            WholeCheckpointIO().load_checkpoint(path, weights_only=False)
    assert not mark.exists()
    pickle.loads(bare.read_bytes())
    assert mark.exists()  # it would have been


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_one_that_is_cut_short_is_told(kept, share):
    WholeCheckpointIO().save_checkpoint(NEW, kept)
    content = kept.read_bytes()
    kept.write_bytes(content[: int(share * len(content))])
    with pytest.raises(
        ValueError, match=r"last\.ckpt cannot be read as a checkpoint: it is cut short"
    ) as told:
        read_checkpoint(kept)
    assert "\n" not in str(told.value)


def test_garbage_is_told(tmp_path):
    path = tmp_path / "a.ckpt"
    path.write_bytes(os.urandom(5000))
    with pytest.raises(ValueError, match="cannot be read as a checkpoint"):
        read_checkpoint(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("letter.txt", "no weights")
    with pytest.raises(ValueError, match=r"a\.ckpt cannot be read as a checkpoint: it is damaged"):
        read_checkpoint(path)
    torch.save([1, 2], path)
    with pytest.raises(ValueError, match="holds no state_dict"):
        read_checkpoint(path)


def test_one_that_no_trainer_wrote_is_no_state_of_training(tmp_path):
    path = tmp_path / "a.ckpt"
    torch.save({"state_dict": {}}, path)
    assert read_checkpoint(path) == {"state_dict": {}}
    with pytest.raises(ValueError, match=r"a\.ckpt is no checkpoint of a training"):
        WholeCheckpointIO().load_checkpoint(path)


def test_one_damaged_in_the_middle_does_not_pass_for_whole(kept):
    WholeCheckpointIO().save_checkpoint(NEW, kept)
    content = bytearray(kept.read_bytes())
    content[200:260] = bytes(60)
    kept.write_bytes(content)
    with pytest.raises(ValueError, match=r"last\.ckpt"):
        read_checkpoint(kept)


def test_nothing_there_is_told(tmp_path):
    for path in (tmp_path / "no.ckpt", tmp_path):
        with pytest.raises(FileNotFoundError, match="no checkpoint at"):
            read_checkpoint(path)


def flipped(path: Path, place: float) -> None:
    """One bit of a file turned over, at a share of its length."""
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("place", [0.2, 0.5, 0.8])
def test_a_single_bit_turned_over_in_a_weight_is_told(kept, place):
    WholeCheckpointIO().save_checkpoint(NEW, kept)
    flipped(kept, place)
    with pytest.raises(
        ValueError, match=r"last\.ckpt cannot be read as a checkpoint: it is damaged"
    ):
        read_checkpoint(kept)


def test_the_newest_that_can_be_read_is_gone_on_from(tmp_path, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr("tfzoo.training.checkpoint.rank_zero_info", said.append)
    run = Run(tmp_path)
    assert newest_sound(run) is None
    files = [run.checkpoints / name for name in ("other.ckpt", "step-1.ckpt", "step-2.ckpt", "step-3.ckpt")]  # fmt: skip
    for age, path in enumerate(files):
        WholeCheckpointIO().save_checkpoint(NEW, path)
        os.utime(path, (age, age))
    assert newest_sound(run) == files[3]
    assert not said
    for path, older in zip(files[:0:-1], files[-2::-1], strict=True):
        flipped(path, 0.5)
        os.utime(path, (files.index(path),) * 2)
        del said[:]
        assert newest_sound(run) == older
        assert said[0].startswith(f"{files[3]} cannot be read as a checkpoint: it is damaged")
        assert all(line.endswith("; passed over") for line in said)
    flipped(files[0], 0.5)
    with pytest.raises(
        ValueError, match=r"holds no checkpoint to go on from: .*step-3\.ckpt cannot"
    ):
        newest_sound(run)
