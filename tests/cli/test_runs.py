"""`tfzoo runs`, from what lies in the runs' folders."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import time

import forked
import pytest
from read_tables import cells
from written_runs import LIFE, config, kill, write_run

from tfzoo.cli import main
from tfzoo.cli.tables import state


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Three runs of one experiment, of which the best was killed, and one of another."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tfzoo.slurm.queue.jobs", lambda *_: {})
    root = tmp_path / "runs"
    again = [
        LIFE | {"ended": None},
        LIFE | {"git": {"commit": "fedcba9876543210", "changed": True}},
    ]
    write_run(root, "gen/a", {10: 2.0, 20: 1.5})
    write_run(root, "gen/b", {10: 3.0, 20: 3.5}, config(depth=4), lives=again)
    kill(write_run(root, "gen/c", {10: 1.0}, config(depth=8, positions="rotary")))
    write_run(root, "class/d", {20: 0.5}, config("TextClassification"), "val/accuracy", [])
    return root


def table(capsys, *said: str) -> list[list[str]]:
    """What a call prints, the head first."""
    assert main(["runs", *said]) == 0
    return cells(capsys.readouterr().out)


def names(capsys, *said: str) -> list[str]:
    return [row[0] for row in table(capsys, "--columns", "run", *said)[1:]]


def test_all_runs_in_one_table_ranked_in_each_experiment(trained, capsys):
    head, *rows = table(capsys)
    assert head == [
        *("experiment", "run", "state", "step", "train/loss", "best", "last"),
        *("parameters", "speed", "time", "commit"),
    ]
    assert rows[0] == [
        *("class", "d", "unknown", "20/20", "1", "val/accuracy 0.5 at 20", "val/accuracy 0.5"),
        *("-", "-", "-", "-"),
    ]
    assert [row[1:7] for row in rows[1:]] == [
        ["c", "killed", "10/20", "2", "val/loss 1 at 10", "val/loss 1"],
        ["a", "finished", "20/20", "3", "val/loss 1.5 at 20", "val/loss 1.5"],
        ["b", "finished", "20/20", "7", "val/loss 3 at 10", "val/loss 3.5"],
    ]
    assert [row[7:] for row in rows[1:]] == [
        ["1.23M", "1,000 tokens/s", "0:01:00", "01234567"],
        ["1.23M", "1,000 tokens/s", "0:02:00", "01234567"],
        # Two lives, the first of which was killed; files that differed from the commit.
        ["1.23M", "1,000 tokens/s", "0:03:00", "fedcba98+"],
    ]


def test_where_the_terminal_is_narrow_the_last_columns_are_left_out_and_named(
    trained, capsys, monkeypatch
):
    monkeypatch.setattr("tfzoo.cli.tables.width", lambda: 100)
    monkeypatch.setattr("tfzoo.cli.runs.width", lambda: 100)
    assert main(["runs", "runs/gen"]) == 0
    told = capsys.readouterr().out
    assert cells(told)[0][-1] == "parameters"
    assert "not shown for want of room: speed, time, commit" in told
    assert max(map(len, told.splitlines())) <= 100


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (["--filter", "experiment=gen"], ["c", "a", "b"]),
        (["--filter", "run=gen/?"], ["c", "a", "b"]),
        (["--filter", "run!=gen/*"], ["d"]),
        (["--filter", "state=killed,unknown"], ["d", "c"]),
        (["--filter", "state!=fin*"], ["d", "c"]),
        (["--filter", "val/loss<2"], ["c", "a"]),
        (["--filter", "val/loss <= 1.5", "--filter", "state=finished"], ["a"]),
        (["--filter", "last:val/loss>3.2"], ["b"]),
        (["--filter", "model.backbone.depth=4"], ["b"]),
        (["--filter", "model.init_args.backbone.depth>=4"], ["c", "b"]),
        (["--filter", "model.backbone.positions=rot*"], ["c"]),
        (["--filter", "trainer.precision=null", "--filter", "model=Gen*"], ["c", "a", "b"]),
        (["--filter", "trainer.callbacks.Last=true"], ["d", "c", "a", "b"]),
        (["--filter", "parameters>1M"], ["c", "a", "b"]),
        (["--filter", "time>=0:02:00"], ["a", "b"]),
        (["--filter", "parameters!=1234567"], ["d"]),
        (["--filter", "commit=0123*"], ["c", "a"]),
        (["--filter", "started>2026-11-25"], []),
        (["--sort", "val/loss"], ["c", "a", "b", "d"]),
        (["--sort", "val/loss", "--reverse"], ["b", "a", "c", "d"]),
        (["--sort", "val/accuracy"], ["d", "a", "b", "c"]),
        (["--sort", "last:val/loss"], ["c", "a", "b", "d"]),
        (["--sort", "time", "--reverse"], ["b", "a", "c", "d"]),
        (["--sort", "model.backbone.depth", "--filter", "experiment=gen"], ["a", "b", "c"]),
    ],
)
def test_filters_and_orders(trained, capsys, said, told):
    if told:
        assert names(capsys, *said) == told
    else:
        assert main(["runs", *said]) == 0
        assert capsys.readouterr().out == "no runs in runs that match\n"


def test_columns_of_ones_own_and_added_ones(trained, capsys):
    head, *rows = table(
        capsys, "runs/gen", "--columns", "run,model.backbone.depth,last:val/loss,model"
    )
    assert head == ["run", "model.backbone.depth", "last val/loss", "model"]
    assert rows[0] == ["c", "8", "1", "Generation"]
    head, *rows = table(capsys, "runs/gen", "--columns", "+seed_everything")
    assert head[4:8] == ["best val/loss", "last val/loss", "seed_everything", "parameters"]
    assert rows[0][6] == "1"


def test_many_runs_are_drawn_as_few_are(trained, capsys, monkeypatch):
    few = table(capsys)
    monkeypatch.setattr("tfzoo.cli.tables.MANY", 2)
    assert table(capsys) == few


def test_the_same_as_json_and_csv(trained, capsys):
    assert main(["runs", "--json", "--columns", "+model.backbone.depth"]) == 0
    unknown, killed, *_ = json.loads(capsys.readouterr().out)
    assert (killed["state"], killed["parameters"], killed["seconds"]) == ("killed", 1234567, 60)
    assert killed["throughput"] == {"value": 1000.0, "unit": "tokens/s"}
    assert killed["best"] == {"val/loss": {"value": 1.0, "step": 10}}
    assert killed["columns"] == {"model.backbone.depth": 8}
    assert unknown["throughput"] is None
    assert main(["runs", "runs/gen", "--csv", "--columns", "run,state,val/loss,speed,time"]) == 0
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert rows[:2] == [
        ["run", "state", "val/loss", "speed", "time"],
        ["c", "killed", "1.0", "1000.0", "60.0"],
    ]
    assert main(["runs", "--csv"]) == 0
    assert capsys.readouterr().out.startswith("experiment,run,state,step,")


def test_damaged_folders_are_shown_with_what_can_be_read(trained, capsys):
    (trained / "gen/a/config.yaml").write_text("")
    (trained / "gen/a/provenance.json").write_text('[{"started": "2026-')
    (trained / "gen/b/config.yaml").write_text(
        "model:\n  class_path: tfzoo.tasks.Gen\n  init_args: {ba"
    )
    (trained / "gen/b/metrics.csv").write_text("step,train/lo")
    (trained / "gen/c/metrics.csv").write_bytes(b"step,val/loss\nnan,1\n\xff\x00,x\n3")
    shown = {
        row[0]: row[1:] for row in table(capsys, "runs/gen", "--columns", "run,state,step,val/loss")
    }
    assert shown["a"] == ["unknown", "20", "1.5"]
    assert shown["b"] == ["finished", "-", "-"]
    assert names(capsys, "--filter", "model.backbone.depth=8") == ["c"]


@pytest.mark.parametrize("said", [["--sweep", "s"], ["runs/gen"], ["runs/gen/sweeps/s"]])
def test_a_sweep_is_told_by_what_varies(runs, capsys, said):
    (runs / "gen" / "sweeps" / "s").mkdir(parents=True)
    assert main(["runs", *said, "--sort", "val/loss"]) == 0
    told = capsys.readouterr().out
    head, *rows = cells(told)
    assert head[0] == "depth"
    assert [row[0] for row in rows] == ["4", "2"]
    assert "lower is better: val/loss" in told


def test_a_sweep_as_json(runs, capsys):
    assert main(["runs", "runs/gen", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["sweep"]["point"]["model.backbone.depth"] for one in told] == [4, 2]
    assert told[1]["best"]["val/loss"] == {"value": 1.5, "step": 10}


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (["runs", "nowhere"], "no runs in"),
        (["runs", "--sort", "val/los"], "did you mean 'val/loss'?"),
        (["runs", "--sweep", "t"], "there is no sweep 't'"),
        (["runs", "--sort", "parameter"], "did you mean 'parameters'?"),
        (["runs", "--columns", "run,stat"], "did you mean 'state'?"),
        (["runs", "--columns", "run,,step"], "--columns takes names"),
        (["runs", "--filter", "trainer.max_step=20"], "did you mean 'trainer.max_steps'?"),
        (["runs", "--filter", "killed"], "a filter is written COLUMN=VALUE"),
        (["runs", "--filter", "val/loss="], "a filter is written COLUMN=VALUE"),
        (["runs", "--filter", "val/loss<low"], "< compares with a number, not 'low'"),
        (["runs", "--filter", "state=done"], "state is one of running, starting, queued, finished"),
        (["runs", "--json", "--csv"], "choose one"),
    ],
)
def test_mistakes(runs, capsys, said, told):
    assert main(said) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_a_long_reason_leaves_room_for_the_other_columns():
    why = "10 steps in a row could not be taken, the last of them step 10: lower the learning rate"
    assert (
        state("failed", why).plain == "failed (10 steps in a row could not be taken, the last ...)"
    )
    assert state("failed", "no space left").plain == "failed (no space left)"


def test_an_empty_folder(tmp_path, capsys):
    assert main(["runs", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("no runs in")


@pytest.mark.slow
def test_a_run_killed_in_the_middle_is_shown_as_killed_with_its_figures_so_far(
    experiment, tmp_path, capsys
):
    code = "import sys; from tfzoo.cli import main; sys.exit(main())"
    flags = ["--run_id=1", "--trainer.max_steps=100000", "--trainer.log_every_n_steps=1"]
    runs = ["--runs", str(tmp_path / "runs")]
    command = [sys.executable, "-c", code, "fit", "-c", str(experiment("Generation"))]
    folder = tmp_path / "runs" / "generation" / "1"
    metrics = folder / "metrics.csv"
    with forked.Popen([*command, *flags, *runs], stdout=subprocess.DEVNULL) as training:
        try:
            patience = time.monotonic() + 120
            while not metrics.exists() or metrics.read_text().count("\n") < 8:
                assert training.poll() is None
                assert time.monotonic() < patience
                time.sleep(0.05)
            assert main(["runs", str(folder), "--json"]) == 0
            (alive,) = json.loads(capsys.readouterr().out)
        finally:
            training.kill()
    assert main(["runs", str(folder), "--json"]) == 0
    (dead,) = json.loads(capsys.readouterr().out)
    assert (alive["state"], dead["state"]) == ("running", "killed")
    assert dead["step"] >= alive["step"] > 0
    assert dead["best"]["val/loss"]["value"] > 0
    assert dead["last"]["train/loss"] > 0
    assert dead["parameters"] > 0
    assert dead["throughput"]["value"] > 0
    assert dead["seconds"] is not None
    # Beside a run that is whole it can be compared as any other.
    assert main(["compare", str(folder), str(folder), "--html", str(tmp_path / "a.html")]) == 2
    assert "two runs or more" in capsys.readouterr().err
    (folder.parent / "2").mkdir()
    for name in ("metrics.csv", "config.yaml"):
        (folder.parent / "2" / name).write_bytes((folder / name).read_bytes()[:-3])
    assert main(["compare", str(folder.parent), "--html", str(tmp_path / "a.html")]) == 0
    assert "A  generation/1  killed" in capsys.readouterr().out
