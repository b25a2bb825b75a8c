"""The page of `tfzoo compare` in a browser: everything is there to be seen, and nothing is asked of anyone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from written_runs import config, kill, write_run

from tfzoo.cli import main
from tfzoo.tracking.runs import Run
from tfzoo.tracking.samples import write_table


def illustrated(run: Run, shade: int) -> None:
    run.figures.mkdir()
    pixels = np.full((60, 80, 3), shade, np.uint8)
    Image.fromarray(pixels).save(run.figures / "attention-step000020.png")
    rows = [
        ["first & <last>", f"read by {run.id}"],
        ["https://nowhere.invalid/x.png", "![x](http://a.invalid)"],
    ]
    write_table(run.figures / "samples-step000020.md", ["source", "translation"], rows)


def test_a_page_shows_all_of_a_comparison_and_makes_no_request(page: Any, tmp_path: Path) -> None:
    whole = write_run(tmp_path, "exp/sinusoidal", {5: 3.0, 10: 2.0, 20: 1.5})
    killed = write_run(tmp_path, "exp/learned", {5: 2.5, 10: 1.8}, config(positions="learned"))
    kill(killed)
    runs = [whole, killed]
    for place, run in enumerate(runs):
        illustrated(run, 80 * (1 + place))
    file = tmp_path / "page.html"
    assert main(["compare", *(str(run.folder) for run in runs), "--html", str(file)]) == 0
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        asked.clear()
        page.goto(file.as_uri())
        assert [url for url in asked if not url.startswith("data:")] == [file.as_uri()]
        charts = page.locator("svg.chart")
        assert charts.count() == 2
        for chart in charts.all():
            lines = chart.locator("polyline")
            assert lines.count() == 2
            colours = {line.evaluate("e => getComputedStyle(e).stroke") for line in lines.all()}
            ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert len(colours | {ground}) == 3
            for line in lines.all():
                box = line.bounding_box()
                assert box["width"] > 50
                assert box["height"] > 20
        differences = page.locator("#differences")
        assert differences.is_visible()
        assert differences.locator("td").all_inner_texts() == [
            "model.backbone.positions",
            "sinusoidal",
            "learned",
        ]
        figures = page.locator("#figures")
        assert figures.is_visible()
        assert (
            figures.locator("tr", has_text="best val/loss").locator("td.best").inner_text()
            == "1.5 at 20"
        )
        assert figures.locator("tr", has_text="state").locator("td").all_inner_texts() == [
            "finished",
            "killed",
        ]
        samples = page.locator("#samples")
        assert samples.is_visible()
        head = samples.locator("th").all_inner_texts()
        assert head == ["source", "A: translation", "B: translation"]
        assert samples.locator("td").all_inner_texts()[:3] == [
            "first & <last>",
            "read by sinusoidal",
            "read by learned",
        ]
        pictures = page.locator("img")
        assert pictures.count() == 2
        for picture in pictures.all():
            assert picture.is_visible()
            assert picture.evaluate("e => e.naturalWidth") == 80
        boxes = [picture.bounding_box() for picture in pictures.all()]
        assert boxes[0]["y"] == boxes[1]["y"]  # side by side
        page.screenshot(path=tmp_path / f"{scheme}.png", full_page=True)
    # On a telephone nothing sticks out.
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
