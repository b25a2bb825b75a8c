"""`tfzoo submit` as far as no cluster is asked: what it refuses, what it prints, what it leaves behind."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import stat
import zipfile
from pathlib import Path

import pytest

from tfzoo.cli import main
from tfzoo.cli.arguments import prepared
from tfzoo.tracking.runs import Run
from tfzoo.tracking.submitted import Submitted

pytestmark = pytest.mark.slow

AVERAGES = '[{"class_path": "lightning.pytorch.callbacks.EMAWeightAveraging"}]'


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TFZOO_CLUSTER", raising=False)
    return tmp_path


@pytest.fixture
def sbatch(here, monkeypatch):
    """A SLURM that takes every job and then knows none; what it is told is a line of the file returned."""
    programs, told = here / "programs", here / "told"
    programs.mkdir()
    write = "import json, sys; print(json.dumps(sys.argv[1:]))"
    for name, script in {
        "sbatch": f'{shlex.quote(shutil.which("python3"))} -c {shlex.quote(write)} "$@" >>{told}; cat answer',
        "squeue": "exit 0",
        "scontrol": "exit 1",
    }.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(stat.S_IRWXU)
    (here / "answer").write_text("Your account has 3 hours left\n41;far\n")
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}/usr/bin{os.pathsep}/bin")
    return told


def refused(capsys, *arguments) -> str:
    """The one line of a command that is refused."""
    assert main(["submit", *map(str, arguments)]) == 2
    told = capsys.readouterr().err
    assert told.startswith("tfzoo: error: ")
    assert told.count("\n") == 1
    return told


def test_without_sbatch_nothing_is_submitted(here, experiment, capsys, monkeypatch):
    monkeypatch.setenv("PATH", str(here))
    assert "there is no sbatch here" in refused(capsys, "-c", experiment("Generation"))
    assert not list(here.iterdir())


WRONG = {
    "no count": (["--trainer.accumulate_grad_batches=0"], "must be at least 1, not 0"),
    "sharded averages": (
        ["--trainer.strategy=fsdp2", f"--trainer.callbacks={AVERAGES}"],
        "cannot be averaged",
    ),
    "nodes": (["--nodes=2", "--trainer.num_nodes=3"], "trainer.num_nodes is 3"),
    "batches": (["--nodes=2", "--batches_per_step=3"], "a multiple of the 2 devices"),
    "no GPUs": (["--trainer.accelerator=gpu"], "say how many with --gpus"),
    "idle GPUs": (["--gpus=2"], "2 GPUs of each node idle"),
    "a point": (["--sweep=model.backbone.heads=2,5"], "the point model.backbone.heads=5: "),
    "a key of the run": (["--sweep=run_id=a,b"], "cannot vary"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_fit_would_refuse_is_refused_before_it_waits(case, here, experiment, sbatch, capsys):
    flags, told = WRONG[case]
    assert told in refused(capsys, "-c", experiment("Generation"), *flags)
    assert not sbatch.exists()
    assert not (here / "runs").exists()


def test_a_number_is_understood_whose_cluster_is_told_beside_it(here, experiment, sbatch, capsys):
    config = experiment("Generation")
    assert main(["submit", "-c", str(config), "--run_id=a", '--data.path=it\'s, "so"\n']) == 0
    run = Run(here / "runs" / "generation" / "a")
    assert Submitted.of(run).job == "41"
    (said,) = map(json.loads, sbatch.read_text().splitlines())
    assert said[-3:] == ['--data.path=it\'s, "so"\n', "--run_id", "a"]
    # What is printed for a shell means the same.
    printed = shlex.split(capsys.readouterr().out.partition("\njob 41")[0])
    assert printed[2:] == said


def test_a_submission_that_fails_takes_only_its_own_away(here, experiment, sbatch, capsys):
    # While sbatch thinks, another submits, and there is no answer in the end.
    (here / "answer").unlink()
    (here / "programs" / "cat").write_text("#!/bin/sh\nmkdir runs/generation/other\n")
    (here / "programs" / "cat").chmod(stat.S_IRWXU)
    assert "without a job's number" in refused(capsys, "-c", experiment("Generation"))
    assert [str(one) for one in Path("runs").glob("*/*")] == ["runs/generation/other"]


def test_points_reach_their_task_as_they_were_written(here, experiment, sbatch, monkeypatch):
    values = ["it's", 'a "b"', "two\nlines", "a\u2028b"]
    points = here / "points.jsonl"
    points.write_text("".join(json.dumps({"data.path": v}) + "\n" for v in values))
    config = experiment("Generation")
    assert main(["submit", "-c", str(config), "--points", str(points), "--run_id=s"]) == 0
    (said,) = map(json.loads, sbatch.read_text().splitlines())
    arguments = said[said.index("-c") :]
    for task, value in enumerate(values):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(task))
        assert f"--data.path={value}" in prepared(["fit", *arguments])


def test_a_dry_run_of_a_sweep_shows_its_points(here, experiment, capsys):
    config = str(experiment("Generation"))
    assert main(["submit", "-c", config, "--sweep=seed_everything=1,2", "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "--array=0-1" in told
    assert "seed_everything=2: --seed_everything=2" in told
    assert not list(here.iterdir())


def test_a_run_is_submitted_again_once_and_where_it_lies(here, experiment, sbatch, capsys):
    config = str(experiment("Generation"))
    assert main(["submit", "-c", config, "--run_id=a"]) == 0
    run = Path("runs/generation/a")
    assert main(["submit", "--again", str(run), f"{run}/"]) == 0
    assert len(sbatch.read_text().splitlines()) == 2
    shutil.copytree(run, "moved/generation/a")
    assert "was submitted as" in refused(capsys, "--again", "moved/generation/a")


def test_a_checkpoint_to_begin_from_counts_until_the_run_has_its_own(here, experiment, sbatch):
    config, given = str(experiment("Generation")), here / "given.ckpt"
    with zipfile.ZipFile(given, "w") as file:
        file.writestr("a", "whole")
    assert main(["submit", "-c", config, "--run_id=a", f"--ckpt_path={given}"]) == 0
    own = Path("runs/generation/a/checkpoints/step-00000002.ckpt")
    own.parent.mkdir()
    own.write_bytes(b"cut short")
    assert main(["submit", "--again", "runs/generation/a"]) == 0
    shutil.copy(given, own)
    assert main(["submit", "--again", "runs/generation/a"]) == 0
    said = [json.loads(line) for line in sbatch.read_text().splitlines()]
    assert [f"--ckpt_path={given}" in one for one in said] == [True, True, False]
    assert not any("--no-requeue" in one for one in said)


def test_a_requeued_job_begins_from_the_checkpoint_it_was_given_until_it_has_its_own(
    trained, here, monkeypatch
):
    begun = trained("Generation")
    shutil.copy(begun / "checkpoints" / "step-00000002.ckpt", here / "given.ckpt")
    for name, value in {"ID": "7", "NAME": "x", "NODELIST": "n"}.items():
        monkeypatch.setenv(f"SLURM_JOB_{name}", value)
    fit = ["fit", "-c", str(begun / "config.yaml"), "--ckpt_path=given.ckpt", "--run_id=r"]
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert main([*fit, "--runs=runs", "--trainer.max_steps=3"]) == 0
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    assert main([*fit, "--runs=runs", "--trainer.max_steps=4"]) == 0
    (run,) = Path("runs").glob("*/r")
    lives = json.loads((run / "provenance.json").read_text())
    assert [life["resumed"]["step"] for life in lives] == [2, 3]
    assert "given.ckpt" in lives[0]["resumed"]["checkpoint"]
