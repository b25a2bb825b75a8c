"""The notes' claims: their sets are what they say, every setting that they change is one, and every page can be made."""

from __future__ import annotations

import contextlib
import json
import math
import random
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

NOTES = Path(__file__).parents[2] / "experiments" / "notes"


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """As in the process of notes.py: its folder comes first."""
    monkeypatch.syspath_prepend(str(NOTES))


def small_sets():
    """The same sets with few rows."""
    import sets

    sizes = {"train": 60, "validation": 12, "test": 24}
    return {
        name: {split: (make, sizes[split]) for split, (make, _) in splits.items()}
        for name, splits in sets.SETS.items()
    }


def test_numbers_are_said_as_one_says_them():
    import sets

    said = {
        0: "zero",
        13: "thirteen",
        40: "forty",
        219: "two hundred nineteen",
        1_000_005: "one million five",
        70_300_812_000: "seventy billion three hundred million eight hundred twelve thousand",
    }
    assert {number: " ".join(sets.words(number)) for number in said} == said


def test_the_letter_to_recall_is_as_far_from_either_end():
    import sets

    for make, even in ((sets.recall, False), (sets.recall_evenly, True)):
        rows = list(make(2000, random.Random(0)))
        for row in rows:
            (place,) = (place for place, letter in enumerate(row["source"]) if letter.isupper())
            assert row["source"][place].lower() == row["target"]
            assert place == len(row["source"]) - 1 - place == sets.distance(row["source"])
        shares: Counter[int] = Counter()
        for row in rows:
            shares[sets.distance(row["source"])] += len(row["source"]) if even else 1
        assert set(shares) == set(sets.DISTANCES)
        assert max(shares.values()) < 2 * min(shares.values())


def test_sets_are_the_same_everywhere(tmp_path):
    import sets

    for folder in ("one", "other"):
        sets.write(tmp_path / folder)
    for name, splits in sets.SETS.items():
        files = {split: tmp_path / "one" / name / f"{split}.jsonl" for split in splits}
        for split, file in files.items():
            assert file.read_bytes() == (tmp_path / "other" / name / file.name).read_bytes()
            assert len(file.read_text().splitlines()) == splits[split][1]
        train, test = (set(files[split].read_text().splitlines()) for split in ("train", "test"))
        assert not train & test


def test_a_training_that_changes_is_another_run():
    from study import Training

    one = Training("translation.yaml", ("--model.backbone.depth=4",), 1)
    assert one.id.startswith("depth-4-seed1-")
    others = {
        replace(one, seed=2).id,
        replace(one, flags=()).id,
        replace(one, file="texts.yaml").id,
    }
    assert len(others | {one.id}) == 4
    assert replace(one, predicted=True).id == one.id


def test_worse_means_worse_in_every_seed():
    from study import Spread, losing, worse

    low, high, wide = Spread((1.0, 1.2)), Spread((1.3, 1.4)), Spread((1.1, 9.0))
    assert worse(high, low)
    assert worse(low, high, lower=False)
    assert not worse(wide, low)
    assert losing({"low": low, "high": high, "wide": wide}) == ("low", ["high"])
    assert losing({"low": low, "high": high}, lower=False) == ("high", ["low"])
    # What diverged is worse than whatever did not.
    diverged = Spread((math.nan, math.nan))
    assert losing({"diverged": diverged, "low": low}) == ("low", ["diverged"])
    assert worse(diverged, low, lower=False)
    assert not worse(Spread((0.5, math.nan)), low)


@pytest.mark.slow
def test_a_training_that_diverges_is_told_and_ends_nothing(tmp_path, monkeypatch):
    import notes
    import sets
    from study import Runs, Variant

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sets, "SETS", small_sets())
    sets.write(notes.RUNS / "sets")
    wild = ("--model.optimizer.init_args.lr=1e30", "--model.schedule=Constant", "--trainer.log_every_n_steps=1")  # fmt: skip
    variant = Variant("wild", "translation.yaml", wild, seeds=(1,))
    with contextlib.redirect_stderr(sys.__stderr__):
        notes.train(variant.trainings, notes.RUNS, 1)
    (training,) = variant.trainings
    assert notes.DIVERGED in training.diverged(notes.RUNS).read_text()
    assert math.isnan(Runs(variant, notes.RUNS).test("test/loss").mean)
    assert training.is_done(notes.RUNS)


def test_a_claim_that_is_not_there(capsys):
    import notes

    with pytest.raises(SystemExit) as ended:
        notes.chosen(["99"])
    assert ended.value.code == 2
    assert "there is no claim '99', only 01-lookup, " in capsys.readouterr().err
    assert [folder.name for folder in notes.chosen(["7", "07-heads"])] == ["07-heads"]


def test_every_claim_has_its_page():
    import notes

    for folder in notes.chosen([]):
        page = (folder / "README.md").read_text(encoding="utf-8")
        assert page.startswith(f"# {int(folder.name[:2])}. ")
        assert f"python experiments/notes/notes.py {folder.name[:2]}\n" in page
        assert page.index(notes.BEGIN) < page.index(notes.END)


@pytest.mark.slow
def test_every_page_can_be_made_of_what_trainings_leave(tmp_path, monkeypatch):
    """Of trainings two steps long: of what they say, the words alone are looked at."""
    import notes
    import sets
    from study import Runs

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sets, "SETS", small_sets())
    sets.write(notes.RUNS / "sets")
    short = ("--trainer.max_steps=2", "--trainer.val_check_interval=2", "--trainer.log_every_n_steps=1")  # fmt: skip
    claims = {}
    for folder in notes.chosen([]):
        claim = notes.claim_of(folder)
        few = [
            replace(v, flags=(*v.flags, *short), seeds=(1, 2)[: 1 + v.predicted])
            for v in claim.variants
        ]
        claims[folder] = replace(claim, variants=few)
    needed = notes.trainings(claims.values())
    with contextlib.redirect_stderr(sys.__stderr__):
        notes.train(needed, notes.RUNS, 1)
    assert all(training.is_done(notes.RUNS) for training in needed)
    for folder, claim in claims.items():
        page = claim.found({v.name: Runs(v, notes.RUNS) for v in claim.variants})
        assert page.verdict.word in ("holds", "holds when", "does not hold")
        assert all(len(row) == len(page.columns) for row in page.rows)
        page.figure.savefig(tmp_path / f"{folder.name}.png", dpi=40)
        page_file = tmp_path / "README.md"
        page_file.write_text((folder / "README.md").read_text(encoding="utf-8"), encoding="utf-8")
        notes.fill(page_file, notes.found(page))
        assert notes.filled(page_file).startswith(f"**{page.verdict.told()}.**")
    told = json.loads((needed[0].folder(notes.RUNS) / "provenance.json").read_text())
    assert told[-1]["ended"]["step"] == 2
    stamps = {t.folder(notes.RUNS): (t.folder(notes.RUNS) / "test.json").stat().st_mtime_ns for t in needed}  # fmt: skip
    notes.train(needed, notes.RUNS, 1)  # nothing is done twice
    assert all((f / "test.json").stat().st_mtime_ns == stamp for f, stamp in stamps.items())
