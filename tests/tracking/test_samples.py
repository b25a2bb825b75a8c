"""A table of samples is one that Markdown reads back, whatever the texts hold."""

from __future__ import annotations

import numpy as np

from tfzoo.tracking.samples import write_table


def test_cells_cannot_break_the_table(tmp_path):
    path = tmp_path / "figures" / "samples.md"
    rows = [
        ["a | b\\", "两行\n文字", 0.123456],
        ["<script>", np.zeros((28, 28)), 7],
        ["", None, "end\r\n"],
    ]
    write_table(path, ["source", "target", "score"], rows)
    assert path.read_text(encoding="utf-8").splitlines() == [
        "| source | target | score |",
        "| --- | --- | --- |",
        "| a \\| b\\\\ | 两行<br>文字 | 0.1235 |",
        "| &lt;script> | image 28x28 | 7 |",
        "|  | None | end |",
    ]
