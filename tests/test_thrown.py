"""What bad data and bad disks do: one line that names what is wrong, or a counted skip, and every checkpoint intact.

Each test tells what it threw and what came back; the session's end shows all of it as a table.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import forked
import numpy as np
import pytest
import torch
import yaml
from disasters import FILLER, fill
from PIL import Image
from small_sets import NO_PICTURES

from tfzoo.cli import main
from tfzoo.tracking.runs import numbered
from tfzoo.training.checkpoint import read_checkpoint

TEXT = "TextClassification"
STEPS = 6
LAST = {"class_path": "Last", "init_args": {"every_n_steps": 1, "keep": 99}}


def fit(config: Path, runs: Path, *more: str, callbacks: list[dict] | None = None) -> list[str]:
    """A run of six steps, a checkpoint after each, validated after every second."""
    return [
        "fit",
        f"-c={config}",
        f"--runs={runs}",
        "--run_id=1",
        f"--trainer.max_steps={STEPS}",
        "--trainer.val_check_interval=2",
        "--trainer.log_every_n_steps=1",
        "--model.backbone.dropout=0.2",
        "--data.batch_tokens=128",
        f"--trainer.callbacks={json.dumps([*(callbacks or []), LAST, NO_PICTURES])}",
        *more,
    ]


def hashes(run: Path) -> dict[str, str]:
    """What a run must not lose: its checkpoints and its config."""
    kept = [*run.glob("checkpoints/*.ckpt"), *run.glob("config.yaml")]
    return {str(f.relative_to(run)): hashlib.sha256(f.read_bytes()).hexdigest() for f in kept}


def readable(run: Path) -> None:
    """Config, metrics and checkpoints are whole."""
    assert yaml.safe_load((run / "config.yaml").read_text())["model"]["class_path"]
    with (run / "metrics.csv").open(newline="") as file:
        (header, *rows) = csv.reader(file)
    assert all(len(row) <= len(header) for row in rows)
    for checkpoint in run.glob("checkpoints/*.ckpt"):
        read_checkpoint(checkpoint)
    assert not [f for f in run.rglob(".*") if f.is_file()], "a draft was left behind"


def same(run: Path, whole: Path) -> None:
    """A run gone on with is the one that never stopped."""
    assert (run / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()
    name = f"checkpoints/step-{STEPS:08d}.ckpt"
    ours, theirs = (read_checkpoint(of / name)["state_dict"] for of in (run, whole))
    assert all(torch.equal(weight, theirs[key]) for key, weight in ours.items())


@pytest.fixture
def thrown(record_property) -> Callable[[str, str], None]:
    """Puts a row into the table: `thrown("a bit turned over", "passed over, older one taken")`."""

    def _thrown(what: str, came: str) -> None:
        record_property("thrown", (what, came))

    return _thrown


@pytest.fixture
def throw(thrown, capfd, tmp_path, monkeypatch) -> Callable[..., str]:
    """Runs a command that must end in one line and code 2, and gives the line."""
    monkeypatch.chdir(tmp_path)

    def _throw(what: str, arguments: list[str], alone: bool = True) -> str:
        capfd.readouterr()
        code = main(arguments)
        told = capfd.readouterr().err
        assert code == 2, told
        *before, line = told.splitlines()
        assert not (alone and before), told
        assert line.startswith("tfzoo: error: ")
        line = line.removeprefix("tfzoo: error: ")
        thrown(what, line.replace(f"{tmp_path}/", ""))
        return line

    return _throw


@pytest.fixture(scope="session")
def whole(experiment, tmp_path_factory) -> Path:
    """A run that nothing was thrown at; not to be written into."""
    import tfzoo.cli.experiment  # noqa: F401  # before anything captures standard error

    runs = tmp_path_factory.mktemp("whole")
    assert main(fit(experiment(TEXT), runs)) == 0
    return runs / TEXT.lower() / "1"


@pytest.fixture
def run(whole, tmp_path) -> Path:
    """A copy of it, which stands after four steps."""
    folder = Path(shutil.copytree(whole, tmp_path / "runs" / TEXT.lower() / "1"))
    for step in (5, 6):
        (folder / f"checkpoints/step-{step:08d}.ckpt").unlink()
    return folder


def mounted(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no command mount")
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A disk of 24 MiB."""
    yield from mounted(tmp_path / "disk", "24m")


def read_only(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)


# Checkpoints


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def overwritten(path: Path) -> None:
    path.write_bytes(os.urandom(path.stat().st_size))


def foreign(path: Path) -> None:
    torch.save({"state_dict": {}, "pytorch-lightning_version": "2.6.6"}, path)


def weights_alone(path: Path) -> None:
    found = read_checkpoint(path)
    for name in ("optimizer_states", "lr_schedulers", "loops", "callbacks"):
        found.pop(name, None)
    torch.save(found, path)


DAMAGE = {
    cut: "it is cut short, or something else",
    emptied: "it is cut short, or something else",
    overwritten: "it is cut short, or something else",
    flipped: "it is damaged",
    foreign: "was not written by tfzoo",
    weights_alone: "holds weights alone",
}


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_a_checkpoint_asked_for(damage, throw, run, experiment):
    bad = run / "checkpoints/step-00000004.ckpt"
    damage(bad)
    before = hashes(run)
    what = f"--ckpt_path of a checkpoint {damage.__name__.replace('_', ' ')}"
    told = throw(what, fit(experiment(TEXT), run.parents[1], f"--ckpt_path={bad}"))
    assert DAMAGE[damage] in told
    assert hashes(run) == before


@pytest.mark.slow
@pytest.mark.parametrize("damage", [*DAMAGE][:4], ids=lambda damage: damage.__name__)
def test_a_run_whose_newest_checkpoint_is_damaged(damage, thrown, run, whole, capfd, caplog):
    damage(run / "checkpoints/step-00000004.ckpt")
    before = hashes(run)
    capfd.readouterr()
    assert main(["resume", str(run)]) == 0
    told = capfd.readouterr()
    assert "resuming from" in told.out
    assert "step-00000003.ckpt, after step 3" in told.out
    if damage is flipped:
        said = "step-00000004.ckpt cannot be read as a checkpoint: it is damaged"
        (line,) = [message for message in caplog.messages if said in message]
        assert line.endswith("; passed over")
    assert {k: v for k, v in hashes(run).items() if "step-0000000" in k and int(k[-6]) < 4}.items() <= before.items()  # fmt: skip
    same(run, whole)
    thrown(
        f"resume, the newest checkpoint {damage.__name__}",
        "goes on from the one before it, to the same weights",
    )


def test_a_run_whose_checkpoints_are_all_damaged(throw, run):
    for path in run.glob("checkpoints/*.ckpt"):
        flipped(path)
    before = hashes(run)
    told = throw("resume, every checkpoint flipped", ["resume", str(run)])
    assert "holds no checkpoint to go on from: " in told
    assert hashes(run) == before


# Disks

MOMENTS = {
    "config.yaml": ("on_train_start", 0, "no space left on the disk for .*config.yaml"),
    "the first checkpoint": ("on_train_batch_end", 1, "cannot save the checkpoint .*/step-00000001.ckpt: "),
    "figures": ("on_validation_start", 4, "no space left on the disk for .*figures/samples-step000004.md"),
    "a checkpoint": ("on_validation_end", 4, "cannot save the checkpoint .*/step-00000004.ckpt: No space left on device"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_disk_that_fills_up(moment, throw, thrown, disk, whole, experiment):
    hook, step, says = MOMENTS[moment]
    full = {"class_path": "disasters.FullDisk", "init_args": {"moment": hook, "step": step}}
    run = disk / "runs" / TEXT.lower() / "1"
    arguments = fit(experiment(TEXT), disk / "runs", callbacks=[full])
    told = throw(f"the disk full at {moment}", arguments)
    assert re.search(says, told)
    (run / FILLER).unlink(missing_ok=True)
    if hook == "on_train_start":
        assert not run.exists()
        assert main(fit(experiment(TEXT), disk / "runs")) == 0
    else:
        readable(run)
        saved = numbered(run / "checkpoints")
        before = hashes(run)
        if saved:
            assert f"tfzoo resume {run} goes on from {saved[0].name}" in told
            goes_on = ["resume", str(run), f"--trainer.callbacks={json.dumps([LAST])}"]
        else:
            goes_on = fit(experiment(TEXT), disk / "runs")
        assert main(goes_on) == 0
        assert {k: hashes(run)[k] for k in before if "step-" in k}.items() <= before.items()
    same(run, whole)
    thrown(f"room made after that ({moment})", "goes on to the same figures and weights")


@pytest.mark.slow
def test_a_disk_that_fills_up_under_metrics(throw, disk, experiment):
    """What is logged goes on for a while on a full disk, whose last page has room: then a line is lost, not a part."""
    full = {"moment": "on_train_batch_start", "step": 3}
    run = disk / "runs" / TEXT.lower() / "1"
    rare = {"class_path": "Last", "init_args": {"every_n_steps": 900}}
    callbacks = [{"class_path": "disasters.FullDisk", "init_args": full}, rare]
    arguments = fit(
        experiment(TEXT),
        disk / "runs",
        "--trainer.max_steps=900",
        "--trainer.val_check_interval=900",
        f"--trainer.callbacks={json.dumps(callbacks)}",
    )
    assert f"no space left on the disk for {run}/metrics.csv" in throw("the disk full at metrics.csv", arguments)  # fmt: skip
    readable(run)
    lines = (run / "metrics.csv").read_text().splitlines(keepends=True)
    assert len(lines) > 20
    assert lines[-1].endswith("\n")


@pytest.mark.slow
def test_a_disk_that_is_full_before(throw, disk, experiment):
    config = experiment(TEXT)
    fill(disk)
    told = throw("a run on a full disk, with W&B", [*fit(config, disk / "runs"), "--trainer.logger=tfzoo.tracking.loggers.WandbLogger"])  # fmt: skip
    assert told.startswith("no space left on the disk for ")
    assert not list(disk.glob("runs/*/*"))


@pytest.mark.slow
def test_wandbs_disk_fills_up(throw, thrown, disk, whole, experiment, monkeypatch):
    """W&B's own files are on the run's disk, and what is told is the first of ours that finds no room."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    full = {"moment": "on_validation_start", "step": 4}
    loggers = [
        {"class_path": f"tfzoo.tracking.loggers.{name}Logger"} for name in ("Metrics", "Wandb")
    ]
    run = disk / "runs" / TEXT.lower() / "1"
    arguments = fit(
        experiment(TEXT),
        disk / "runs",
        f"--trainer.logger={json.dumps(loggers)}",
        callbacks=[{"class_path": "disasters.FullDisk", "init_args": full}],
    )
    # In a process of their own: W&B, once torn down in a process, starts there no more.
    assert apart(arguments) == 2
    (run / FILLER).unlink()
    readable(run)
    assert list(run.glob("wandb/offline-run-*/*.wandb"))
    assert apart(["resume", str(run), f"--trainer.callbacks={json.dumps([LAST])}"]) == 0
    same(run, whole)
    thrown(
        "the disk full under W&B's files too", "one line; room made, goes on to the same figures"
    )


def apart(arguments: list[str]) -> int:
    """The exit code of a command in a process of its own, which knows the disasters."""
    program = "import sys; from tfzoo.cli import main; sys.exit(main(sys.argv[1:]))"
    places = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    env = os.environ | {"PYTHONPATH": places}
    return forked.run([sys.executable, "-c", program, *arguments], env=env).returncode


@pytest.mark.slow
def test_read_only_folders(throw, disk, run, experiment):
    config = experiment(TEXT)
    there = Path(shutil.copytree(run, disk / "runs" / TEXT.lower() / "1"))
    cache = disk / "cache"
    cache.mkdir()
    before = hashes(there)
    read_only(disk)
    told = throw("a new run in a read-only folder", [*fit(config, disk / "other")])
    assert "no run folder can be made in" in told
    assert "(Read-only file system): choose a folder that you can write to" in told
    told = throw("resume in a read-only folder", ["resume", str(there)])
    assert f"the run folder {there} cannot be written: choose another" in told
    told = throw("a cache in a read-only folder", [*fit(config, run.parents[2] / "new"), f"--data.cache_dir={cache}"])  # fmt: skip
    assert f"the cache {cache}/tfzoo cannot be written: read-only file system" in told
    told = throw("test of a run in a read-only folder", ["test", f"--ckpt_path={there}/checkpoints/best.ckpt"])  # fmt: skip
    assert told == f"read-only file system: {there}/test.json"
    assert hashes(there) == before


@pytest.mark.slow
@pytest.mark.parametrize("spare", [0, 100_000], ids=["full", "filling up"])
def test_a_cache_without_room(throw, disk, tmp_path, experiment, spare):
    cache = disk / "cache"
    cache.mkdir()
    rows = [{"text": f"some longer text {i} " * 20, "label": i % 2} for i in range(200)]
    data = written(tmp_path / "set", rows)
    fill(disk, spare)
    told = throw(
        f"a cache on a disk with {spare} bytes left",
        [*fit(experiment(TEXT), tmp_path / "new", data), f"--data.cache_dir={cache}"],
    )
    assert f"the cache {cache}/tfzoo cannot be written: no space left on device" in told
    (disk / FILLER).unlink()
    more = [
        f"--data.cache_dir={cache}",
        "--data.batch_tokens=2048",
        "--model.backbone.max_length=999",
    ]
    assert main([*fit(experiment(TEXT), tmp_path / "new", data), *more]) == 0


# Data


def written(folder: Path, rows: list[dict]) -> str:
    folder.mkdir()
    for split in ("train", "validation", "test"):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(lines)
    return f"--data={folder}"


GOOD = [{"text": f"some text {i}", "label": "ab"[i % 2]} for i in range(12)]
LINES = [json.dumps(row).encode() for row in GOOD]
BAD = {
    "a missing text": b'{"text": null, "label": "a"}',
    "an empty text": b'{"text": "", "label": "a"}',
    "a text of white space": b'{"text": " \\t ", "label": "a"}',
    "a missing label": b'{"text": "x", "label": null}',
    "bytes that are no UTF-8": b'{"text": "caf\xe9", "label": "a"}',
    "one line of 100,000 tokens": json.dumps({"text": "word " * 20_000, "label": "a"}).encode(),
}


@pytest.mark.slow
@pytest.mark.parametrize("streaming", [False, True], ids=["", "streamed"])
@pytest.mark.parametrize("bad", BAD)
def test_a_bad_row(bad, streaming, throw, thrown, tmp_path, experiment, caplog):
    for split in ("train", "validation", "test"):
        lines = [*LINES[:5], BAD[bad], *LINES[5:]] if split == "train" else LINES
        (tmp_path / "set").mkdir(exist_ok=True)
        (tmp_path / "set" / f"{split}.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    how = ["--data.streaming=true", "--data.max_length=60"] if streaming else []
    arguments = [*fit(experiment(TEXT), tmp_path / "new", f"--data={tmp_path / 'set'}"), *how]
    what = f"{bad}{', streamed' if streaming else ''}"
    told = throw(what, arguments)
    named = {
        "bytes that are no UTF-8": "train.jsonl is not UTF-8 text: line 6 holds the byte 0xe9",
        "one line of 100,000 tokens": "100001 tokens",
    }
    assert named.get(bad, "row 5 (from 0) of the train split has ") in told
    assert not list((tmp_path / "new").glob("*/*"))
    assert main([*arguments, "--data.skip_broken=true"]) == 0
    (line,) = [line for line in caplog.messages if "left out" in line]
    assert line.startswith(
        "Of the train split, 1 of 13 rows are broken and left out, such as row 5"
    )
    thrown(f"{what}, skip_broken", line)


def test_nothing_but_bad_rows(throw, tmp_path, experiment):
    data = written(tmp_path / "set", [{"text": "", "label": "a"}] * 3)
    told = throw("empty texts alone, skip_broken", [*fit(experiment(TEXT), tmp_path / "new", data), "--data.skip_broken=true"])  # fmt: skip
    assert told.startswith("nothing is left of the train split: 3 of 3 rows are broken")


@pytest.mark.parametrize("cell", ["", "NaN", "0.5"])
def test_a_class_that_is_no_number(cell, throw, tmp_path, experiment):
    rows = [f"text {i},{i % 2}" for i in range(12)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label", *rows[:5], f"x,{cell}", *rows[5:]]))
    told = throw(
        f"a csv with {cell or 'nothing'} where a class is wanted",
        [*fit(experiment(TEXT), tmp_path / "new"), f"--data={tmp_path}/rows.csv"],
    )
    wanted = "has 0.5 in column 'label', where a class is wanted" if cell == "0.5" else "has no label in column 'label'"  # fmt: skip
    assert wanted in told


def test_a_csv_with_a_missing_side(throw, tmp_path, experiment):
    rows = [f"text {i},文 {i}" for i in range(12)]
    (tmp_path / "rows.csv").write_text("\n".join(["source,target", *rows[:5], "x,", *rows[5:]]))
    arguments = ["fit", "-c", str(experiment("Translation")), f"--data={tmp_path}/rows.csv"]
    told = throw("a csv with a missing translation", [*arguments, f"--runs={tmp_path / 'new'}"])
    assert "has no text in column 'target' (beside 'x')" in told


@pytest.mark.slow
def test_images_that_are_broken(throw, thrown, tmp_path, experiment, caplog):
    for split in ("train", "validation"):
        for number in range(8):
            folder = tmp_path / "set" / split / "ab"[number % 2]
            folder.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(number).integers(0, 256, (28, 28), np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    files = sorted((tmp_path / "set/train").rglob("*.png"))
    files[3].write_bytes(files[3].read_bytes()[:300])
    emptied(files[5])
    arguments = ["fit", "-c", str(experiment("ImageClassification")), f"--data={tmp_path}/set", f"--runs={tmp_path}/new"]  # fmt: skip
    assert f"{files[3]} is missing, broken or no image" in throw("a corrupt image", arguments)
    workers = [*arguments, "--data.workers=2"]
    assert "is missing, broken or no image" in throw("a corrupt image, with workers", workers)
    assert main([*workers, "--data.skip_broken=true"]) == 0
    (line,) = [line for line in caplog.messages if "left out" in line]
    assert line.startswith("Of the train split, 2 of 8 rows are broken and left out, such as row 3")
    thrown("corrupt images, skip_broken", line.replace(f"{tmp_path}/", ""))


# Processes beside the training


@pytest.mark.slow
def test_a_worker_that_is_killed(throw, thrown, tmp_path, whole, experiment):
    dies = {"class_path": "disasters.WorkerDies", "init_args": {"step": 3, "signal": int(signal.SIGKILL)}}  # fmt: skip
    runs = tmp_path / "new"
    run = runs / TEXT.lower() / "1"
    told = throw(
        "a worker that dies of SIGKILL",
        fit(experiment(TEXT), runs, "--data.workers=2", callbacks=[dies]),
        alone=False,  # torch tells it wherever this process is: in a destructor the interpreter has a word too
    )
    assert told.startswith("a process that prepares batches died (")
    assert "set data.workers lower, 0 for none; tfzoo resume " in told
    readable(run)
    before = hashes(run)
    assert main(["resume", str(run), f"--trainer.callbacks={json.dumps([LAST])}"]) == 0
    assert {k: hashes(run)[k] for k in before if "step-" in k}.items() <= before.items()
    same(run, whole)
    thrown("resumed after that", "goes on to the same figures and weights")


@pytest.mark.slow
def test_a_worker_outlives_what_asks_the_training_to_end(thrown, tmp_path, whole, experiment):
    asked = {"class_path": "disasters.WorkerDies", "init_args": {"step": 3, "signal": int(signal.SIGTERM)}}  # fmt: skip
    assert main(fit(experiment(TEXT), tmp_path / "new", "--data.workers=2", callbacks=[asked])) == 0
    same(tmp_path / "new" / TEXT.lower() / "1", whole)
    thrown("a worker sent SIGTERM alone", "trains on to the same figures and weights")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["value", "full"])
def test_a_worker_that_fails(kind, throw, tmp_path, experiment):
    fails = {"class_path": "disasters.WorkerFails", "init_args": {"kind": kind}}
    told = throw(
        f"a worker that raises {'ValueError' if kind == 'value' else 'a full disk'}",
        fit(experiment(TEXT), tmp_path / "new", "--data.workers=1", callbacks=[fails]),
    )
    says = {"value": "the sample is broken: mend it", "full": "No space left on device"}
    assert told == says[kind]
