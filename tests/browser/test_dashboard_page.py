"""The dashboard as a person sees it: two runs of one task in one chart, the runs, what differs, pictures, tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opened import Dashboard

from tfzoo.cli import main
from tfzoo.tracking.samples import write_table

TRACKIO = "--trainer.logger+=tfzoo.tracking.trackio_logger.TrackioLogger"
RUNS = ("generation/rotary", "generation/sinusoidal")


@pytest.fixture(scope="module")
def address(experiment, tmp_path_factory) -> Iterator[str]:
    """Two trainings with different positions, of which only one was logged for the dashboard."""
    runs = tmp_path_factory.mktemp("looked-at") / "runs"
    for positions, more in (("sinusoidal", [TRACKIO]), ("rotary", [])):
        arguments = ["fit", "-c", str(experiment("Generation")), "--runs", str(runs)]
        arguments += [f"--run_id={positions}", f"--model.backbone.positions={positions}", *more]
        arguments += ["--trainer.max_steps=6", "--trainer.log_every_n_steps=1"]
        arguments += ["--trainer.val_check_interval=3", "--trainer.callbacks=null"]  # pictures too
        assert main(arguments) == 0
    words = runs / RUNS[0] / "figures" / "words-step000006.md"
    write_table(words, ["text"], [["真好看 <b>|</b>"]])
    with Dashboard(runs, "--port=0") as dashboard:
        yield dashboard.address
        dashboard.end()


def painted(page: Any, metric: str) -> dict[str, int]:
    """For each run in the legend of a chart, how many pixels of the chart have its colour."""
    chart = page.locator(f'[data-metric="{metric}"]').first
    chart.locator("canvas.marks").wait_for()
    return chart.evaluate(
        """async chart => {
            await new Promise(resolve => setTimeout(resolve, 1000));
            const canvas = chart.querySelector("canvas.marks");
            const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            const found = {};
            for (const item of chart.querySelectorAll(".legend-item")) {
                const dot = getComputedStyle(item.querySelector(".legend-dot")).backgroundColor;
                const colour = dot.match(/\\d+/g).map(Number);
                let count = 0;
                for (let i = 0; i < data.length; i += 4)
                    count += [0, 1, 2].every(c => Math.abs(data[i + c] - colour[c]) < 24);
                found[item.innerText.trim()] = count;
            }
            return found;
        }"""
    )


def shot(page: Any, tmp_path: Path, name: str) -> None:
    page.screenshot(path=tmp_path / f"{name}.png", full_page=True)
    assert (tmp_path / f"{name}.png").stat().st_size > 10_000


@pytest.mark.parametrize("metric", ["train/loss", "val/loss"])
def test_two_runs_of_one_task_in_one_chart(page, address, tmp_path, metric):
    page.goto(address)
    colours = painted(page, metric)
    shot(page, tmp_path, "chart")
    assert colours.keys() == set(RUNS)
    # One curve may lie on the other, so each is looked at alone; nothing but curves has such a colour.
    for shown, hidden in (RUNS, RUNS[::-1]):
        tick(page, hidden, metric)
        alone = painted(page, metric)
        assert alone.keys() == {shown}
        assert alone[shown] > 100
        tick(page, hidden, metric)


def tick(page: Any, run: str, metric: str) -> None:
    """Tick a run, or no longer, and wait for its chart to say so."""
    legend = page.locator(f'[data-metric="{metric}"] .legend-item', has_text=run)
    there = legend.count()
    page.locator("label", has_text=run).first.click()
    legend.first.wait_for(state="detached" if there else "attached")


def test_the_table_of_runs(page, address, tmp_path):
    page.goto(f"{address}/runs")
    rows = page.locator("tbody tr")
    rows.first.wait_for()
    page.wait_for_function("() => document.querySelectorAll('tbody tr').length == 2")
    shot(page, tmp_path, "runs")
    texts = [re.sub(r"\s+", " ", text).strip() for text in rows.all_inner_texts()]
    assert {text.split()[0] for text in texts} == set(RUNS)
    assert {text.split()[-1] for text in texts} == {"6"}  # the last step: the pictures' of the end


def test_what_differs_in_their_configs(page, address, tmp_path):
    page.goto(address)
    page.get_by_label("Show run comparer").check()
    page.get_by_label("Diff only").check()
    table = page.locator("table.comparer-table")
    table.get_by_text("model.init_args.backbone.positions").wait_for()
    shot(page, tmp_path, "differences")
    rows = [row.split("\t") for row in table.locator("tr.differs").all_inner_texts()]
    cells = {row[0].strip(): {cell.strip() for cell in row[1:]} for row in rows}
    assert cells["model.init_args.backbone.positions"] == {"rotary", "sinusoidal"}
    # Besides, what only a logger was told, and when they were made.
    assert cells.keys() == {"model.init_args.backbone.positions", "parameters", "Created"}


def test_pictures_and_tables_of_both(page, address, tmp_path):
    page.goto(f"{address}/media")
    images = page.locator("img[src*='/file?path=']:not([src*='logo'])")
    images.first.wait_for()
    page.wait_for_function(
        "() => [...document.images].every(image => image.complete && image.naturalWidth > 0)"
    )
    shot(page, tmp_path, "pictures")
    sizes = images.evaluate_all("images => images.map(i => [i.naturalWidth, i.clientWidth])")
    assert len(sizes) >= 4  # at two validations of two runs
    assert all(natural > 100 and shown > 50 for natural, shown in sizes)
    text = page.inner_text("body")
    for run in RUNS:
        assert f"{run}, Step: 6" in text
    assert re.findall(r"Tables \((\d+)\)", text) == ["5"]
    assert "真好看 <b>|</b>" in text


def test_no_token_is_given_away(page, address):
    page.goto(address)
    page.get_by_text(RUNS[0]).first.wait_for()
    assert page.context.cookies() == []
    assert "token" not in page.url
    assert page.get_by_role("button", name="Delete").count() == 0
