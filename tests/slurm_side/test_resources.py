"""What a job asks for, said by flags and by a site's file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import tfzoo
from tfzoo.slurm.resources import Resources, Site, resources_of, seconds_of
from tfzoo.slurm.sbatch import Submission, find_script, outside_of_a_job


def test_one_task_for_each_gpu():
    asked = Resources(
        nodes=2, gpus="a100:4", time="1-12:00:00", memory="64G", options=("--exclusive",)
    )
    assert asked.processes == 8
    assert asked.flags() == [
        "--nodes=2",
        "--gpus-per-node=a100:4",
        "--ntasks-per-node=4",
        "--mem=64G",
        "--time=1-12:00:00",
        "--exclusive",
    ]


def test_without_gpus_there_are_tasks():
    assert Resources(nodes=2, tasks=3).processes == 6
    assert "--ntasks-per-node=1" in Resources().flags()


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"nodes": 0}, "nodes must be at least 1"),
        ({"nodes": "two"}, "nodes must be a whole number"),
        ({"gpus": "0"}, "gpus must be a number above 0"),
        ({"gpus": "0"}, "say --tasks N"),
        ({"gpus": "2", "tasks": 3}, "each GPU has one task"),
        ({"time": "24h"}, "time must be minutes"),
        ({"time": "3"}, "give it four at least"),
        ({"time": "0-0:2"}, "give it four at least"),
        ({"memory": "64 GB"}, "memory must be"),
        ({"name": "bash"}, "may not be called 'bash'"),
        ({"name": "interactive"}, "may not be called 'interactive'"),
        ({"name": "a b"}, "name must be"),
        ({"options": ["-N 2"]}, "a long one in one word"),
        ({"options": ["--array=0-3"]}, "--sweep"),
        ({"options": ["--job-name=bash"]}, "--name"),
        ({"options": ["--ntasks=2"]}, "--tasks"),
        ({"options": ["--gres=tmp:1,gpu:2"]}, "GPUs are asked for with --gpus"),
        ({"options": ["--clusters=other"]}, "$SLURM_CLUSTERS"),
        ({"options": ["--test-only"]}, "--dry-run"),
        ({"prtition": "x"}, "did you mean 'partition'"),
    ],
)
def test_what_slurm_would_not_take_is_told(asked, told):
    with pytest.raises(ValueError, match=re.escape(told)):
        resources_of(asked)


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        ("5", 300),
        ("5:30", 330),
        ("1:00:01", 3601),
        ("2-1", 49 * 3600),
        ("1-0:2", 86520),
        ("1-00:00:03", 86403),
        ("0", 0),
        ("UNLIMITED", 0),
    ],
)
def test_a_time_limit_means_what_sbatch_takes_it_for(time, seconds):
    assert seconds_of(time) == seconds
    assert f"--time={time}" in Resources(time=time).flags()


def test_a_short_job_says_when_it_is_warned():
    assert Resources(time="2", options=("--signal=SIGUSR2@30",)).time == "2"


SITE = """
partition: gpu
time: 24:00:00
gpus: 4
memory: 64G
options: [--exclusive]
script: own.sbatch
"""


def test_flags_beat_the_file(tmp_path):
    (tmp_path / "site.yaml").write_text(SITE)
    site = Site.read(tmp_path / "site.yaml")
    assert site.script == tmp_path / "own.sbatch"
    # As it is written, and not as the number of seconds that YAML sees.
    assert site.resources.time == "24:00:00"
    asked = resources_of({"time": "10", "partition": None, "options": ["--nice=5"]}, site.resources)
    assert (asked.time, asked.partition) == ("10", "gpu")
    assert asked.options == ("--exclusive", "--nice=5")


def test_tasks_said_by_a_flag_mean_no_gpus_of_the_file(tmp_path):
    (tmp_path / "site.yaml").write_text(SITE)
    asked = resources_of({"tasks": "2"}, Site.read(tmp_path / "site.yaml").resources)
    assert (asked.gpus, asked.processes) == (None, 2)


def test_the_file_may_be_said_by_the_environment(tmp_path, monkeypatch):
    (tmp_path / "site.yaml").write_text("partition: gpu")
    monkeypatch.setenv("TFZOO_CLUSTER", str(tmp_path / "site.yaml"))
    assert Site.read(None).resources.partition == "gpu"
    monkeypatch.delenv("TFZOO_CLUSTER")
    assert Site.read(None) == Site()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("prtition: gpu", "there is no 'prtition', did you mean 'partition'?"),
        ("scrpt: x", "did you mean 'script'?"),
        ("- partition", "as `partition: gpu`"),
        ("nodes: two", "nodes must be a whole number"),
        ("partition: {a: b}", "partition must be a text"),
        ("a: [", "site.yaml"),
    ],
)
def test_a_mistake_in_the_file_is_named(text, told, tmp_path):
    (tmp_path / "site.yaml").write_text(text)
    with pytest.raises(ValueError, match=re.escape(told)) as raised:
        Site.read(tmp_path / "site.yaml")
    assert "site.yaml" in str(raised.value)


def test_a_file_that_is_not_there():
    with pytest.raises(FileNotFoundError, match="there is no cluster file"):
        Site.read("nowhere.yaml")


def test_the_script_is_that_of_the_repository_or_the_one_said(tmp_path):
    assert find_script(None) == Path(tfzoo.__file__).parents[1] / "slurm" / "train.sbatch"
    (tmp_path / "own").touch()
    assert find_script(tmp_path / "own") == tmp_path / "own"
    with pytest.raises(FileNotFoundError, match="no batch script"):
        find_script(tmp_path / "other")


@pytest.mark.parametrize("how", ["data", "prefix", "user", "target"])
def test_the_installed_script_is_found_without_the_repository(how, tmp_path, monkeypatch):
    package = tmp_path / "target" / "tfzoo" / "__init__.py"
    monkeypatch.setattr(tfzoo, "__file__", str(package))
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path / "data"))
    monkeypatch.setattr("sys.prefix", str(tmp_path / "prefix"))
    monkeypatch.setattr("site.getuserbase", lambda: str(tmp_path / "user"))
    with pytest.raises(FileNotFoundError, match="name one with --script"):
        find_script(None)
    folder = tmp_path / how / "share" / "tfzoo"
    folder.mkdir(parents=True)
    (folder / "train.sbatch").touch()
    assert find_script(None) == folder / "train.sbatch"


def test_the_line_can_be_pasted(monkeypatch):
    monkeypatch.setenv("TFZOO", "/opt/my env/tfzoo")
    job = Submission(("--nodes=1",), Path("/s"), ("-c", "an experiment.yaml"), Path())
    assert (
        job.line()
        == "TFZOO='/opt/my env/tfzoo' sbatch --parsable --nodes=1 /s -c 'an experiment.yaml'"
    )


def test_a_job_within_a_job_inherits_nothing_of_it(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "3")
    monkeypatch.setenv("SLURM_NTASKS", "8")
    monkeypatch.setenv("SLURM_CONF", "/conf")
    kept = {key for key in outside_of_a_job() if key.startswith("SLURM")}
    assert kept == {"SLURM_CONF"}
