"""Settings of a config by dotted key: one of them reads as it does among all."""

from __future__ import annotations

import pytest
import yaml

from tfzoo.tracking.runs import Run
from tfzoo.tracking.settings import ABSENT, setting, settings

CONFIG = {
    "seed_everything": 1,
    "trainer": {
        "callbacks": [
            {
                "class_path": "lightning.pytorch.callbacks.EMAWeightAveraging",
                "init_args": {"decay": 0.5},
            },
            {"class_path": "tfzoo.training.last.Last", "init_args": {"keep": 2}},
        ],
        "devices": [0, 1],
        "logger": {"class_path": "tfzoo.tracking.loggers.MetricsLogger"},
        "plugins": {},
        "precision": None,
        "max_steps": 20,
    },
    "model": {
        "class_path": "tfzoo.tasks.Generation",
        "init_args": {
            "prompt": "\n  trainer: no\nmodel: {none",
            "backbone": {"dim": 32, "norm_eps": 1e-05, "bias": True},
            "tie": True,
        },
    },
}
FLAT = {
    "seed_everything": 1,
    "trainer.callbacks.EMAWeightAveraging": True,
    "trainer.callbacks.EMAWeightAveraging.decay": 0.5,
    "trainer.callbacks.Last": True,
    "trainer.callbacks.Last.keep": 2,
    "trainer.devices": [0, 1],
    "trainer.logger": "MetricsLogger",
    "trainer.plugins": {},
    "trainer.precision": None,
    "trainer.max_steps": 20,
    "model": "Generation",
    "model.prompt": "\n  trainer: no\nmodel: {none",
    "model.backbone.dim": 32,
    "model.backbone.norm_eps": 1e-05,
    "model.backbone.bias": True,
    "model.tie": True,
}


@pytest.mark.parametrize("style", [False, None, True], ids=["blocks", "mixed", "braces"])
def test_each_reads_as_among_all(tmp_path, style):
    run = Run(tmp_path)
    text = yaml.safe_dump(CONFIG, sort_keys=False, default_flow_style=style)
    run.config_file.write_text(f"# lightning.pytorch==2.6.6\n{text}")
    assert settings(run) == FLAT
    assert {key: setting(run, key) for key in FLAT} == FLAT
    for key in ("nothing", "model.nothing", "model.backbone.dim.more", "trainer.callbacks.Guard"):
        assert setting(run, key) is ABSENT


def test_what_refers_to_another_place_is_read_too(tmp_path):
    run = Run(tmp_path)
    run.config_file.write_text("a: &a\n  x: 1\nb:\n  c: *a\n")
    assert setting(run, "b.c.x") == 1


@pytest.mark.parametrize(
    "text", ["", "model:\n  class_path: [half", "- a\n- b\n", "\x00\x01", "text"]
)
def test_no_config_and_half_a_config_have_no_settings(tmp_path, text):
    run = Run(tmp_path)
    assert settings(run) is None
    run.config_file.write_text(text)
    assert settings(run) is None
    assert setting(run, "model") is ABSENT
