"""A table of samples is one that Markdown reads back, whatever the texts hold."""

from __future__ import annotations

import numpy as np

from tfzoo.tracking.samples import read_table, write_table


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


def test_a_table_reads_back_as_it_was_written(tmp_path):
    path = tmp_path / "samples.md"
    rows = [["a | b\\", "两行\n文字"], ["<br> & <script>", ""], ["", "\\| "]]
    write_table(path, ["source", "target"], rows)
    assert read_table(path) == (["source", "target"], rows)
    assert read_table(tmp_path / "none.md") == ([], [])
    path.write_text("")
    assert read_table(path) == ([], [])
