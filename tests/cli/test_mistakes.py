"""Bad input: one line that names what is wrong and what would be right, exit code 2, nothing left behind."""

import copy
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from tfzoo.cli import main
from tfzoo.training.checkpoint import read_checkpoint

T = "Translation"
TEXT, IMAGE, LANGUAGE = "TextClassification", "ImageClassification", "Generation"


@pytest.fixture
def mistake(experiment, tmp_path, capsys, monkeypatch):
    """The line that a command ends in: `mistake("fit", task, "--flag")`, or with changes to the YAML file."""
    monkeypatch.chdir(tmp_path)

    def _mistake(command: str, task: str | None, *flags: str, **changes) -> str:
        arguments = [command]
        if task is not None:
            config = yaml.safe_load(experiment(task).read_text())
            for key, value in changes.items():
                *groups, last = key.split("__")
                inner = config
                for group in groups:
                    inner = inner.setdefault(group, {})
                inner[last] = value
            file = tmp_path / "bad.yaml"
            file.write_text(yaml.safe_dump(config))
            arguments += ["-c", str(file)]
        capsys.readouterr()
        assert main([*arguments, *flags]) == 2
        told = capsys.readouterr()
        assert told.out == ""
        (line,) = told.err.splitlines()
        assert not list(tmp_path.glob("runs/*/*")), "a run's folder was left behind"
        return line.removeprefix("tfzoo: error: ")

    return _mistake


KEYS = [
    ("--trainer.max_step=3", "trainer has no 'max_step', did you mean 'max_steps'?"),
    ("--trainer.max_stps=3", "trainer has no 'max_stps', did you mean 'max_steps'?"),
    ("--model.backbone.dimm=3", "model.backbone has no 'dimm', did you mean 'dim'?"),
    ("--model.init_args.backbone.head=3", "model.backbone has no 'head', did you mean 'heads'?"),
    ("--model.label_smoothin=0", "model has no 'label_smoothin', did you mean 'label_smoothing'?"),
    ("--model.schedule.warm=3", "model.schedule has no 'warm', did you mean 'warmup'?"),
    ("--data.batch_token=3", "data has no 'batch_token', did you mean 'batch_tokens'?"),
    ("--data.init_args.max_lenght=3", "data has no 'max_lenght', did you mean 'max_length'?"),
    ("--experimnt=x", "there is no 'experimnt', did you mean 'experiment'?"),
    ("--modle.tie=x", "there is no 'modle', did you mean 'model'?"),
    ("stray", "nothing is known of 'stray'"),
]


@pytest.mark.parametrize(("flag", "told"), KEYS, ids=[flag for flag, _ in KEYS])
def test_a_mistyped_key_on_the_command_line(flag, told, mistake):
    assert mistake("fit", T, flag) == told


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("trainr__max_steps", "there is no 'trainr', did you mean 'trainer'?"),
        ("run_idd", "there is no 'run_idd', did you mean 'run_id'?"),
        ("trainer__max_step", "trainer has no 'max_step', did you mean 'max_steps'?"),
        ("model__init_args__backbone__dimm", "model.backbone has no 'dimm', did you mean 'dim'?"),
        ("model__init_args__beam_sise", "model has no 'beam_sise', did you mean 'beam_size'?"),
        ("model__init_arg", "model has no 'init_arg', did you mean 'init_args'?"),
        (
            "model__init_args__schedule__init_args__warm",
            "model.schedule has no 'warm', did you mean 'warmup'?",
        ),
        ("data__init_args__batch_token", "data has no 'batch_token', did you mean 'batch_tokens'?"),
        ("data__init_args__wholly_unknown", "data has no 'wholly_unknown'"),
    ],
)
def test_a_mistyped_key_in_a_file(key, told, mistake):
    assert mistake("fit", T, **{key: 3}) == told


def of(name: str, **arguments) -> dict:
    return {"class_path": name, "init_args": arguments}


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        (
            "model__class_path",
            "Translaton",
            "model: there is no class or file 'Translaton', did you mean 'Translation'?",
        ),
        (
            "data__class_path",
            "TranslationDat",
            "data: there is no class or file 'TranslationDat', did you mean 'TranslationData'?",
        ),
        (
            "model__init_args__schedule",
            of("Cosin"),
            "model.schedule: there is no class or file 'Cosin', did you mean 'Cosine'?",
        ),
        (
            "model__init_args__optimizer",
            of("torch.optim.AdmW", lr=1),
            "model.optimizer: there is no class or file 'AdmW', did you mean 'AdamW'?",
        ),
        (
            "model__init_args__optimizer",
            of("torch.optim.AdamW", lrr=1),
            "model.optimizer has no 'lrr', did you mean 'lr'?",
        ),
        (
            "trainer__callbacks",
            [of("EarlyStoping")],
            "trainer.callbacks: there is no class or file 'EarlyStoping', did you mean 'EarlyStopping'?",
        ),
        (
            "trainer__logger",
            of("WandbLoger"),
            "trainer.logger: there is no class or file 'WandbLoger', did you mean 'WandbLogger'?",
        ),
        (
            "model__init_args__backbone",
            "small.yaml",
            "model.backbone: there is no file 'small.yaml'",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and "__" in value else "",
)
def test_a_mistyped_class(key, value, told, mistake):
    assert mistake("fit", T, **{key: value}) == told


@pytest.mark.parametrize(
    ("flag", "told"),
    [
        (
            "--model=Generaton",
            "model: there is no class or file 'Generaton', did you mean 'Generation'?",
        ),
        ("--data=revews", "data: there is no class or file 'revews', did you mean 'reviews'?"),
        (
            '--trainer.callbacks=[{"class_path":"Guard","init_args":{"patience":0}}]',
            "patience of Guard must be at least 1, not 0",
        ),
        ("--trainer.max_steps=many", "trainer.max_steps: must be a whole number, not 'many'"),
        ("--model.label_smoothing=much", "model.label_smoothing: must be a number, not 'much'"),
        (
            "--model.optimizer.init_args.lr=0.1",
            "model.optimizer has no class to take 'lr': name it with --model.optimizer",
        ),
        (
            "--trainer.limit_train_batches=few",
            "trainer.limit_train_batches: must be a number, not 'few'",
        ),
        ("--data.truncate=perhaps", "data.truncate: must be true or false, not 'perhaps'"),
        ("--model.tie=every", "model.tie: must be one of none, output, all, not every"),
        (
            "--model.backbone.positions=rotery",
            "model.backbone.positions: must be one of sinusoidal, learned, rotary, none, not rotery",
        ),
    ],
)
def test_a_mistyped_value(flag, told, mistake):
    assert mistake("fit", T, flag) == told


def test_a_mistyped_argument_of_a_class(mistake):
    flags = ["--model.optimizer=torch.optim.AdamW", "--model.optimizer.init_args.lr=fast"]
    assert mistake("fit", T, *flags) == "model.optimizer.lr: must be a number, not 'fast'"


def test_all_values_that_there_are_get_named(mistake):
    told = mistake("fit", T, "--trainer.precision=17")
    assert told.startswith("trainer.precision: must be one of 64, 32, 16, ")
    assert "bf16-mixed" in told
    assert told.endswith("not 17")


@pytest.mark.parametrize(
    ("flag", "told"),
    [
        (
            "--model.backbone.heads=5",
            "heads must divide dim: 5 heads do not divide width 32; possible are 1, 2, 4, 8, 16, 32",
        ),
        ("--model.backbone.dropout=1.5", "dropout must be in [0, 1), not 1.5"),
        (
            "--model.backbone.max_length=16",
            "the data's longest sequence has 60 tokens, the model has 16 positions: raise backbone.max_length, or cut with data.max_length 16 and data.truncate true",
        ),
        (
            "--data.max_length=16",
            "8 of 8 samples of the train split are longer than max_length 16, the longest with 60 tokens: raise max_length or set truncate to true",
        ),
        ("--data.truncate=true", "truncate needs max_length to be set"),
        (
            "--data.source=english",
            "there is no column 'english' for the source, only source (text), target (text)",
        ),
        ("--data.test_split=exam", "has no split 'exam', only train, validation, test"),
        (
            "--data.tokenizer=word",
            "tokenizer must be characters, bytes, bpe or a path of a tokenizer.json, not 'word'",
        ),
        ("--data=./nowhere", "there is no file or folder ./nowhere"),
        ("--data.path=/nowhere/rows.csv", "there is no file or folder /nowhere/rows.csv"),
        ("--model.schedule.warmup=-1", "warmup must not be negative, as -1 is"),
        ("--experiment=a/b", "experiment 'a/b' must be a folder's name"),
        ("--run_id=..", "run id '..' must be a folder's name"),
        ("--ckpt_path=nowhere.ckpt", "no checkpoint at nowhere.ckpt"),
        (
            "--runs=bad.yaml/runs",
            "bad.yaml/runs/bad (Not a directory): choose a folder that you can write to",
        ),
        ("--runs=/proc/runs", "no run folder can be made in /proc/runs/bad ("),
    ],
    ids=lambda value: value.partition("=")[0] if value.startswith("--") else "",
)
def test_what_cannot_be(flag, told, mistake):
    assert told in mistake("fit", T, flag)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        # Found out only when training is about to begin, with the folder already made.
        (
            ["--data.batch_tokens=20"],
            "tokens, more than the 20 of a whole batch: raise batch_tokens, or set max_length and truncate",
        ),
        (
            ["--trainer.max_steps=-1", "--trainer.max_epochs=1"],
            "Linear must know where training ends: set trainer.max_steps, or the schedule's total",
        ),
        (["--trainer.accelerator=toaster"], "invalid accelerator name"),
    ],
    ids=["budget", "schedule", "accelerator"],
)
def test_what_is_found_out_late_leaves_nothing_either(flags, told, mistake):
    assert told in mistake("fit", T, *flags)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "a config file must hold keys and what they are"),
        ("- 1\n- 2\n", "a config file must hold keys and what they are"),
        ("model: [unclosed\n a: b", "Problems parsing config"),
    ],
)
def test_a_config_that_is_none(content, told, mistake, tmp_path):
    file = tmp_path / "none.yaml"
    file.write_text(content)
    assert told in mistake("fit", None, "-c", str(file))
    assert mistake("fit", None, "-c", "nowhere.yaml") == (
        f"there is no config file '{tmp_path / 'nowhere.yaml'}'"
    )


def written(folder: Path, **splits: list[dict]) -> str:
    folder.mkdir()
    for name, rows in splits.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"--data={folder}"


ROWS = [{"text": f"some text {i}", "label": "ab"[i % 2]} for i in range(8)]


def test_rows_that_are_not_there(mistake, tmp_path):
    told = mistake("fit", TEXT, written(tmp_path / "a", train=ROWS, validation=ROWS, test=[]))
    assert told == f"the test split of {tmp_path / 'a'} is empty"
    unseen = [{"text": "x", "label": "c"}]
    told = mistake("fit", TEXT, written(tmp_path / "b", train=ROWS, validation=unseen))
    assert told == (
        "row 0 (from 0) of the validation split has the label 'c', which training has not; "
        "data.skip_broken true leaves such rows out"
    )


def test_the_data_of_another_task(mistake, experiment):
    other = experiment(LANGUAGE).parent / "data"
    assert (
        "no column can be the target: name one with target; the columns are text (text)"
        in mistake("fit", T, f"--data={other}")
    )
    told = mistake(
        "fit",
        T,
        data__class_path="GenerationData",
        data__init_args={"path": str(other), "context": 8},
    )
    assert told == (
        "the model needs data that gives TranslationFacts: choose the DataModule of its task"
    )


def pictures(folder: Path) -> Path:
    for split in ("train", "validation"):
        for label in "ab":
            (folder / split / label).mkdir(parents=True)
            for name in "12":
                noise = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)
                Image.fromarray(noise).save(folder / split / label / f"{name}.png")
    return folder


def test_images_that_are_broken_or_of_another_shape(mistake, tmp_path):
    folder = pictures(tmp_path / "pictures")
    broken = folder / "train" / "b" / "2.png"
    broken.write_bytes(broken.read_bytes()[:300])
    told = mistake("fit", IMAGE, f"--data={folder}")
    assert told == (
        f"{broken} is missing, broken or no image; data.skip_broken true leaves such out"
    )
    assert mistake("fit", IMAGE, "--model.patch=5").startswith(
        "patch must divide the image: 5 does not divide 28"
    )
    assert "65 tokens" not in mistake("fit", IMAGE, "--model.patch=1")
    assert "channels must be 1 (grey) or 3 (colour), not 2" in mistake(
        "fit", IMAGE, "--data.channels=2"
    )


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def checkpoints(folder: Path, good: Path) -> dict[Path, str]:
    """Files that are no checkpoints, and what is to be told of each."""
    names = ("garbage", "cut", "bomb", "foreign", "weights", "bare")
    garbage, cut, bomb, foreign, weights, bare = (folder / f"{name}.ckpt" for name in names)
    garbage.write_bytes(b"garbage")
    shutil.copy(good, cut)
    os.truncate(cut, cut.stat().st_size - 1000)
    torch.save({"state_dict": Bomb()}, bomb)
    torch.save({"state_dict": {}, "pytorch-lightning_version": "2.6.6"}, foreign)
    torch.save({"state_dict": {}}, weights)
    torch.save({"weights": {}}, bare)
    return {
        garbage: "garbage.ckpt cannot be read as a checkpoint: it is cut short, or something else",
        cut: "cut.ckpt cannot be read as a checkpoint: it is cut short, or something else",
        bomb: "bomb.ckpt is no checkpoint of tfzoo: it holds code or objects, which are never loaded",
        foreign: "the checkpoint was not written by tfzoo: it carries no task",
        weights: "weights.ckpt is no checkpoint of a training: no Trainer wrote it",
        bare: "bare.ckpt is no checkpoint: it holds no state_dict",
    }


@pytest.mark.slow
@pytest.mark.parametrize("command", ["fit", "test"])
def test_a_checkpoint_that_is_none(command, mistake, trained, tmp_path):
    good = trained(TEXT) / "checkpoints/step-00000002.ckpt"
    for path, told in checkpoints(tmp_path, good).items():
        assert told in mistake(command, TEXT, f"--ckpt_path={path}")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.slow
def test_a_checkpoint_of_another_task_is_told_by_its_task(mistake, trained):
    last = trained(LANGUAGE) / "checkpoints/step-00000002.ckpt"
    told = mistake("fit", TEXT, f"--ckpt_path={last}")
    assert told.startswith("the checkpoint is of task Generation, the config's is TextClass")


@pytest.mark.slow
def test_the_folder_of_a_run_is_no_checkpoint(mistake, trained):
    run = trained(TEXT)
    for folder in (run, run / "checkpoints"):
        for command, task in (("fit", TEXT), ("test", TEXT), ("validate", None)):
            told = mistake(command, task, f"--ckpt_path={folder}")
            assert told == (
                f"{folder} is a folder of checkpoints: say which one, such as {run}/checkpoints/best.ckpt"
            )


def test_nothing_to_measure(mistake):
    assert mistake("test", T) == (
        "test needs --ckpt_path: without one there is only an untrained network"
    )
    assert "needs --ckpt_path of a run" in mistake("validate", None)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (
            ["--data.tokenizer=bytes"],
            "vocabulary does not match the checkpoint's: 262 tokens here, ",
        ),
        (
            ["--model.backbone.heads=4"],
            "the checkpoint was trained with backbone.heads 2, the config says 4",
        ),
        (
            ["--model.backbone.dim=64"],
            "the checkpoint was trained with backbone.dim 32, the config says 64",
        ),
        (
            ["--model.pooling=mean"],
            "the checkpoint was trained with pooling cls, the config says mean",
        ),
    ],
    ids=["vocabulary", "heads", "width", "pooling"],
)
def test_a_run_that_cannot_go_on_stays_as_it_is(flags, told, mistake, trained, tmp_path):
    run = tmp_path / "elsewhere" / "x" / "1"
    shutil.copytree(trained(TEXT), run)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    last = run / "checkpoints/step-00000002.ckpt"
    assert told in mistake("fit", TEXT, f"--ckpt_path={last}", *flags)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert read_checkpoint(last)["global_step"] == 2


def test_other_labels(mistake, trained, tmp_path):
    rows = [{**row, "label": {"a": "x", "b": "y"}[row["label"]]} for row in ROWS]
    # The vocabulary would differ as well: it comes from a file.
    tokenizer = tmp_path / "tokenizer.json"
    last = trained(TEXT) / "checkpoints/step-00000002.ckpt"
    tokenizer.write_text(read_checkpoint(last)["tfzoo"]["facts"]["tokenizer"])
    data = written(tmp_path / "rows", train=rows, validation=rows)
    flags = [data, f"--data.tokenizer={tokenizer}", f"--ckpt_path={last}"]
    assert mistake("fit", TEXT, *flags) == (
        "the labels do not match the checkpoint's: x, y here, 0, 1 there"
    )


SCRIPT = """
import json, os, sys, tempfile
from tfzoo.cli import main

results = []
for arguments in json.load(sys.stdin):
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        keep = os.dup(1), os.dup(2)
        os.dup2(out.fileno(), 1), os.dup2(err.fileno(), 2)
        try:
            code = main(arguments)
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            os.dup2(keep[0], 1), os.dup2(keep[1], 2)
        told = []
        for file in (out, err):
            file.seek(0)
            told.append(file.read().decode())
        results.append([code, *told])
print(json.dumps(results))
"""


@pytest.mark.slow
def test_a_shell_sees_one_line_and_nothing_else(experiment, trained, tmp_path):
    """In a process of its own, where whatever libraries write to either stream is seen."""
    config = str(experiment(TEXT))
    (tmp_path / "garbage.ckpt").write_bytes(b"garbage")
    fresh = [f"--data.cache_dir={tmp_path / 'cache'}", f"--data={Path(config).parent / 'data'}"]
    cases = {
        "max_steps": ["fit", "-c", config, "--trainer.max_step=3"],
        "heads": ["fit", "-c", config, *fresh, "--model.backbone.heads=5"],
        "batch_tokens": ["fit", "-c", config, *fresh, "--data.batch_tokens=20"],
        "max_length": ["fit", "-c", config, "--data.max_length=9"],
        "trainer.max_steps": [
            "fit",
            "-c",
            config,
            "--trainer.max_steps=-1",
            "--trainer.max_epochs=1",
        ],
        "garbage.ckpt": ["fit", "-c", config, "--ckpt_path=garbage.ckpt"],
        "backbone.dim": [
            "test",
            "-c",
            config,
            "--model.backbone.dim=64",
            f"--ckpt_path={trained(TEXT) / 'checkpoints/best.ckpt'}",
        ],
        "--ckpt_path": ["test"],
        "no checkpoint at": ["translate", "nowhere.ckpt", "x"],
    }
    found = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=json.dumps(list(cases.values())),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=300,
    )
    assert found.returncode == 0, found.stderr
    for (word, arguments), (code, out, err) in zip(
        cases.items(), json.loads(found.stdout.splitlines()[-1]), strict=True
    ):
        assert (code, out) == (2, ""), arguments
        assert err.count("\n") == 1, err
        line = err.strip()
        assert line.startswith("tfzoo: error: "), err
        assert word in line
    assert not list(tmp_path.glob("runs/*/*"))


def test_configs_are_not_changed_by_reading_them(experiment):
    config = yaml.safe_load(experiment(T).read_text())
    before = copy.deepcopy(config)
    assert main(["fit", "-c", str(experiment(T)), "--trainer.max_step=3"]) == 2
    assert yaml.safe_load(experiment(T).read_text()) == before


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (
            ["--batches_per_step=2", "--trainer.accumulate_grad_batches=2"],
            "batches_per_step and trainer.accumulate_grad_batches say the same: leave one out, "
            "or set it to null or 1",
        ),
        (
            ["--batches_per_step=0"],
            "batches_per_step must be a multiple of the 1 devices, not 0",
        ),
        (
            [
                "--trainer.strategy=fsdp2",
                '--trainer.callbacks=[{"class_path": "EMAWeightAveraging"}]',
            ],
            "weights that are sharded cannot be averaged: leave the EMA callback out with "
            "--trainer.callbacks null, or train with configs/trainer/ddp.yaml",
        ),
    ],
    ids=["said twice", "none", "averages"],
)
def test_what_devices_cannot_do(flags, told, mistake):
    assert mistake("fit", T, *flags) == told
