"""What is made of arguments before LightningCLI reads them."""

import pytest

from tfzoo.cli.arguments import prepared, value_of

FIT = ["fit", "-c", "x.yaml"]


@pytest.mark.parametrize("value", ["reviews", "./nowhere", "user/set", "rows.csv", "a/rows.jsonl"])
def test_data_may_be_a_path(value):
    expected = [*FIT, "--data.path", value]
    assert prepared([*FIT, "--data", value]) == expected
    assert prepared([*FIT, f"--data={value}"]) == [*FIT, f"--data.path={value}"]


def test_data_may_be_a_folder_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    assert prepared([*FIT, "--data", "mine"])[-2:] == ["--data.path", "mine"]


@pytest.mark.parametrize(
    "value", ["TranslationData", "tfzoo.data.TranslationData", "data.yaml", "a/data.yml"]
)
def test_data_may_be_a_class_or_a_config_as_ever(value):
    assert prepared([*FIT, "--data", value]) == [*FIT, "--data", value]
    assert prepared([*FIT, f"--data={value}"]) == [*FIT, f"--data={value}"]


def test_other_values_are_left_alone():
    arguments = [*FIT, "--experiment", "reviews", "--data.path", "reviews", "--data"]
    assert prepared(arguments) == arguments


@pytest.mark.parametrize("command", ["test", "validate", "predict"])
@pytest.mark.parametrize("joined", [False, True])
def test_measuring_takes_the_config_of_the_checkpoints_run(command, joined, tmp_path):
    run = tmp_path / "runs" / "x" / "1"
    (run / "checkpoints").mkdir(parents=True)
    checkpoint = run / "checkpoints" / "best.ckpt"
    for file in (run / "config.yaml", checkpoint):
        file.touch()
    path = [f"--ckpt_path={checkpoint}"] if joined else ["--ckpt_path", str(checkpoint)]
    assert prepared([command, *path]) == [command, "-c", str(run / "config.yaml"), *path]
    # A config of one's own is enough.
    assert prepared([command, *path, "-c", "x.yaml"]) == [command, *path, "-c", "x.yaml"]
    assert prepared([command, *path, "--config=x.yaml"]) == [command, *path, "--config=x.yaml"]
    assert prepared([command, "--help"]) == [command, "--help"]


@pytest.mark.parametrize("command", ["test", "validate", "predict"])
def test_measuring_needs_a_run_or_a_config(command, tmp_path):
    (tmp_path / "lost.ckpt").touch()
    for arguments in ([], ["--ckpt_path", str(tmp_path / "lost.ckpt")]):
        with pytest.raises(ValueError, match=f"{command} needs --ckpt_path of a run"):
            prepared([command, *arguments])


def test_fit_needs_an_experiment():
    with pytest.raises(ValueError, match="fit needs an experiment: tfzoo fit -c experiments/"):
        prepared(["fit", "--trainer.max_steps", "3"])
    for enough in ("-c=x.yaml", "--config", "--help", "--model"):
        assert prepared(["fit", enough]) == ["fit", enough]


def test_a_checkpoint_must_be_there():
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at nowhere\.ckpt"):
        prepared([*FIT, "--ckpt_path=nowhere.ckpt"])
    # Lightning's own words for one.
    assert prepared([*FIT, "--ckpt_path", "last"]) == [*FIT, "--ckpt_path", "last"]


def test_of_an_option_said_twice_the_last_counts():
    assert value_of(["--a=1", "--b", "2", "--a", "3"], "--a") == "3"
    assert value_of(["--a", "3", "--a=1"], "--a") == "1"
    assert value_of(["--ab=1", "--a"], "--a") is None


def test_a_job_may_name_a_run_before_the_checkpoint_of_another(tmp_path, monkeypatch):
    from tfzoo.cli import experiment

    checkpoint = tmp_path / "runs/x/1/checkpoints/step-00000001.ckpt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    (tmp_path / "runs/x/1/config.yaml").touch()
    script = ["--run_id", "of-the-job", "--ckpt_path", "last"]  # as slurm/train.sbatch begins
    said = [*script, "--ckpt_path", str(checkpoint)]
    with pytest.raises(ValueError, match="leave --run_id out"):
        experiment.check_same_run(said)
    for named in ("--run_id=1", "--run_id=null", "--experiment=null"):
        experiment.check_same_run([*said, "--run_id=1", named])
    monkeypatch.setattr(experiment, "is_batch", lambda: True)
    experiment.check_same_run(said)
    with pytest.raises(ValueError, match="leave --experiment out"):
        experiment.check_same_run([*said, "--experiment=y"])
