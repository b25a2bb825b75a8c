"""Points of sweeps and the names made of them."""

from __future__ import annotations

import json
import re

import pytest

from tfzoo.slurm.axes import split
from tfzoo.slurm.sweep import LONGEST, endings, names, points
from tfzoo.tracking.runs import checked_name

DEPTH = "model.init_args.backbone.depth=2,4"


def values(*arguments, **named):
    return [point.values for point in points(*arguments, **named)]


def test_a_grid_is_the_product_and_its_last_key_runs_fastest():
    found = values([DEPTH, "seed_everything=1,2,3"])
    assert found == [
        {"model.backbone.depth": depth, "seed_everything": seed}
        for depth in (2, 4)
        for seed in (1, 2, 3)
    ]


def test_flags_are_as_they_were_written():
    point = points([DEPTH, "model.optimizer.lr=1e-3"])[1]
    assert point.flags == ("--model.init_args.backbone.depth=4", "--model.optimizer.lr=1e-3")
    assert point.values["model.optimizer.lr"] == 1e-3


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a,b", ["a", "b"]),
        ("[1,2],[3,4]", ["[1,2]", "[3,4]"]),
        ("'a,b',c", ["'a,b'", "c"]),
        ("{a: 1, b: 2}", ["{a: 1, b: 2}"]),
    ],
)
def test_a_comma_inside_of_brackets_or_quotes_divides_nothing(text, parts):
    assert split(text) == parts


@pytest.mark.parametrize(
    ("sweeps", "named", "told"),
    [
        (["model.depth"], {}, "key=a,b,c"),
        (["depth=1,,2"], {}, "key=a,b,c"),
        (["a=1,1"], {}, "a=1 is there twice"),
        (["a=1,1.0"], {"sample": 3}, "more points than the 2"),
        ([DEPTH, "model.backbone.depth=6"], {}, "model.backbone.depth varies twice"),
        (["lr=log(1e-4,1e-2)"], {}, "--sample N"),
        (["lr=log(0,1)"], {"sample": 2}, "above 0"),
        (["lr=uniform(3,1)"], {"sample": 2}, "below the upper"),
        (["lr=log(1)"], {"sample": 2}, "log(LOW,HIGH)"),
        (["a=1,2"], {"sample": 0}, "at least 1"),
        ([], {}, "a sweep needs"),
    ],
)
def test_what_is_no_sweep_is_told(sweeps, named, told):
    with pytest.raises(ValueError, match=re.escape(told)):
        points(sweeps, **named)


def test_a_sample_has_no_point_twice_and_its_seed_decides_it():
    grid = ["a=1,2,3,4", "b=1,2,3,4"]
    found = values(grid, sample=10)
    assert len({json.dumps(point) for point in found}) == 10
    assert found == values(grid, sample=10)
    assert found != values(grid, sample=10, seed=1)
    assert len(values(grid, sample=16)) == 16


def test_a_huge_grid_is_sampled_at_once():
    grid = [f"k{i}={','.join(map(str, range(50)))}" for i in range(12)]
    assert len(values(grid, sample=5)) == 5
    with pytest.raises(ValueError, match="too many for a job"):
        points(grid)


def test_ranges_are_drawn_from_and_the_grid_beside_them_is_covered_evenly():
    found = values(["lr=log(1e-4,1e-2)", "p=uniform(0,0.5)", "depth=1,2"], sample=40)
    assert all(1e-4 <= point["lr"] <= 1e-2 and 0 <= point["p"] <= 0.5 for point in found)
    # Evenly on a logarithmic scale: half lies below the middle of the exponents.
    assert 10 <= sum(point["lr"] < 1e-3 for point in found) <= 30
    assert sum(point["depth"] == 1 for point in found) == 20
    assert len({point["lr"] for point in found}) > 30


FILES = {
    "p.csv": "model.backbone.depth,seed_everything\n2,1\n4,\n",
    "p.jsonl": '{"model.backbone.depth": 2, "seed_everything": 1}\n\n{"model.backbone.depth": 4}\n',
    "p.json": '[{"model.backbone.depth": 2, "seed_everything": 1}, {"model.backbone.depth": 4}]',
    "p.yaml": "- {model.init_args.backbone.depth: 2, seed_everything: 1}\n- {model.backbone.depth: 4}\n",
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_points_in_every_format(name, tmp_path):
    (tmp_path / name).write_text(FILES[name])
    found = values(file=tmp_path / name)
    assert found == [{"model.backbone.depth": 2, "seed_everything": 1}, {"model.backbone.depth": 4}]


def test_a_file_of_points_is_multiplied_with_a_grid(tmp_path):
    (tmp_path / "p.csv").write_text(FILES["p.csv"])
    assert len(values(["data.batch_size=1,2"], tmp_path / "p.csv")) == 4


def test_null_and_nested_values_of_a_file(tmp_path):
    (tmp_path / "p.yaml").write_text("- {a: null, b: [1, 2], c: true, d: x}\n")
    (point,) = points(file=tmp_path / "p.yaml")
    assert point.flags == ("--a=null", "--b=[1, 2]", "--c=true", "--d=x")
    assert point.values == {"a": None, "b": [1, 2], "c": True, "d": "x"}


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("p.txt", "", "it must be .csv"),
        ("p.yaml", "a: 1", "a list of mappings"),
        ("p.yaml", "- 3", "3 is no mapping"),
        ("p.csv", "a,b\n1,2,3\n", "under no key"),
        ("p.csv", "a,b\n", "a list of mappings"),
        ("p.jsonl", "{", "p.jsonl"),
    ],
)
def test_a_file_that_holds_no_points(name, text, told, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=re.escape(told)):
        points(file=tmp_path / name)


def test_a_file_of_points_must_be_there():
    with pytest.raises(FileNotFoundError, match="no file of points"):
        points(file="nowhere.csv")


def test_endings_are_the_shortest_that_are_no_other_keys():
    assert endings(["model.backbone.depth", "seed_everything"]) == {
        "model.backbone.depth": "depth",
        "seed_everything": "seed_everything",
    }
    assert endings(["model.encoder.depth", "model.decoder.depth"]) == {
        "model.encoder.depth": "encoder.depth",
        "model.decoder.depth": "decoder.depth",
    }
    # An ending that is itself a whole key is that key's.
    assert endings(["depth", "model.depth"]) == {"depth": "depth", "model.depth": "model.depth"}


def test_names_hold_what_varies_and_nothing_else():
    assert names(points([DEPTH, "model.optimizer.lr=0.1"]), "s") == ["s-depth=2", "s-depth=4"]
    assert names(points(["a=1"]), "s") == ["s-a=1"]


def test_names_can_be_folders_and_are_different_whatever_varies():
    hard = ["data.path=/a/b,/a-b,a b,ä%$", "x=[1,2],[1, 3],'',null", f"y=1,{'long' * 80}"]
    found = names(points(hard), "20261124-120000-abcd")
    assert len(set(found)) == len(found) == 32
    for name in found:
        assert checked_name("run id", name) == name
        assert len(name.encode()) <= LONGEST


def test_quotes_around_a_value_have_done_their_work():
    (first, second, third) = points(["data.path='a,b',\"c d\",''"])
    assert first.flags == ("--data.path=a,b",)
    assert second.flags == ("--data.path=c d",)
    assert (third.flags, third.values) == (("--data.path=",), {"data.path": ""})
    assert points(["""stop=['a',"b"]"""])[0].flags == ("""--stop=['a',"b"]""",)


def test_dates_and_times_stay_what_was_written(tmp_path):
    assert values(["data.revision=2026-01-31,12:30:00"]) == [
        {"data.revision": "2026-01-31"},
        {"data.revision": "12:30:00"},
    ]
    (tmp_path / "p.yaml").write_text("- {day: 2026-01-31, days: [2026-02-01]}\n")
    (point,) = points(file=tmp_path / "p.yaml")
    assert point.flags == ("--day=2026-01-31", '--days=["2026-02-01"]')


def test_line_breaks_within_a_value_break_no_line(tmp_path):
    (tmp_path / "p.csv").write_text('prompt\n"a\nb"\n')
    assert points(file=tmp_path / "p.csv")[0].flags == ("--prompt=a\nb",)
    (tmp_path / "p.jsonl").write_text('{"prompt": "a\u2028b\x85"}\n', encoding="utf-8")
    assert points(file=tmp_path / "p.jsonl")[0].flags == ("--prompt=a\u2028b\x85",)
