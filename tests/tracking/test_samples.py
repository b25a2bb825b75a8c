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


def test_a_table_is_read_again(tmp_path):
    texts = ["a|b", "a\\|b", "c\\", "<br", "two\nlines", "真好看", "", " "]
    write_table(tmp_path / "t.md", ["text|", "n"], [[text, 0.25] for text in texts])
    read = read_table(tmp_path / "t.md")
    assert [row["text|"] for row in read] == [*texts[:-1], ""]
    assert {row["n"] for row in read} == {"0.25"}
    (tmp_path / "t.md").write_text("nothing of the kind\n\n| a |")
    assert read_table(tmp_path / "t.md") == []
