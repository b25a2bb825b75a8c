"""Checkpoints put to use: texts as arguments, in files and on standard input, images by name and by folder."""

import io
import json
import os
import shutil
import subprocess
import sys

import forked
import numpy as np
import pytest
from PIL import Image

from tfzoo.cli import apply, main

TASKS = ("Translation", "TextClassification", "ImageClassification", "Generation")


@pytest.fixture
def best(trained, capsys):
    """The checkpoint of a small run: `best("Translation")`."""

    def _best(task: str) -> str:
        checkpoint = trained(task) / "checkpoints/best.ckpt"
        capsys.readouterr()  # what the training said
        return str(checkpoint)

    return _best


@pytest.fixture
def typed(monkeypatch):
    """Bytes on standard input."""

    def _typed(content: bytes) -> None:
        stdin = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8")
        monkeypatch.setattr(sys, "stdin", stdin)

    return _typed


def lines(capsys) -> list[str]:
    told = capsys.readouterr()
    assert told.err == ""
    return told.out.removesuffix("\n").split("\n")


def mistake(capsys, *arguments) -> str:
    """The line that a mistake is told in; nothing may have been printed before."""
    capsys.readouterr()
    assert main(list(map(str, arguments))) == 2
    told = capsys.readouterr()
    assert told.out == ""
    (line,) = told.err.splitlines()
    assert line.startswith("tfzoo: error: ")
    return line.removeprefix("tfzoo: error: ")


def test_translate_takes_arguments_a_file_or_standard_input_alike(best, typed, tmp_path, capsys):
    texts = ["some text", "more of it"]
    assert main(["translate", best("Translation"), *texts]) == 0
    expected = lines(capsys)
    assert len(expected) == 2
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(texts))
    assert main(["translate", best("Translation"), "--file", str(file)]) == 0
    assert lines(capsys) == expected
    typed("\n".join(texts).encode() + b"\n")
    assert main(["translate", best("Translation")]) == 0
    assert lines(capsys) == expected


@pytest.mark.parametrize(
    ("content", "count"),
    [
        (b"a\n\nb\n", 3),
        (b"\n \na", 3),
        (b"a\r\nb\r\n", 2),
        (b"\xef\xbb\xbfa\n", 1),
        ("a\x0bb\x0cc\x85d\u2028e\n".encode(), 1),
    ],
)
def test_output_and_input_go_side_by_side(best, typed, capsys, content, count):
    typed(content)
    assert main(["translate", best("Translation"), "--beam", "1"]) == 0
    assert len(lines(capsys)) == count


def test_translate_decodes_as_it_is_told(best, capsys, monkeypatch):
    from tfzoo.models import Beam
    from tfzoo.tasks import Translation

    used = []
    monkeypatch.setattr(
        Translation, "translate", lambda task, texts, **_: used.append(task.beam) or iter(texts)
    )
    for flags in ([], ["--beam", "1"], ["--beam", "7", "--length-penalty", "0"]):
        assert main(["translate", best("Translation"), "x", *flags]) == 0
    assert used == [Beam(4, 0.6), Beam(1, 0.6), Beam(7, 0.0)]
    assert "beam" in mistake(capsys, "translate", best("Translation"), "x", "--beam", "0")


def test_classify_texts(best, capsys):
    texts = ["some text", "more"]
    assert main(["classify", best("TextClassification"), *texts]) == 0
    for line, text in zip(lines(capsys), texts, strict=True):
        label, probability, name = line.split("\t")
        assert label in ("0", "1")
        assert 0.5 <= float(probability) <= 1
        assert name == text
    assert main(["classify", best("TextClassification"), "--json", *texts]) == 0
    for line, text in zip(lines(capsys), texts, strict=True):
        found = json.loads(line)
        assert found["input"] == text
        assert sum(found["classes"].values()) == pytest.approx(1)


def test_classify_pairs_of_texts(experiment, tmp_path, capsys):
    rows = [{"premise": f"a{i}", "hypothesis": f"b{i}", "label": i % 2} for i in range(32)]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    fit = ["fit", "-c", experiment("TextClassification"), "--runs", tmp_path / "runs"]
    columns = {"text": "premise", "text_pair": "hypothesis", "label": "label"}
    named = [part for key, name in columns.items() for part in (f"--data.{key}", name)]
    assert main(list(map(str, [*fit, "--data.path", file, *named]))) == 0
    (checkpoint,) = tmp_path.glob("runs/*/*/checkpoints/best.ckpt")
    capsys.readouterr()
    assert main(["classify", str(checkpoint), "a1\tb1"]) == 0
    (line,) = lines(capsys)
    assert line.endswith("\ta1\tb1")
    assert "with a tab between: 'a1'" in mistake(capsys, "classify", checkpoint, "a1")


def test_an_image_is_no_text(best, tmp_path, capsys):
    checkpoint, image = best("TextClassification"), tmp_path / "a b.png"
    Image.new("L", (4, 4)).save(image)
    for said in (image, "missing.png"):
        told = mistake(capsys, "classify", checkpoint, said)
        assert told == f"{said} names an image; this checkpoint classifies texts"
    assert main(["classify", checkpoint, "I like my a.png"]) == 0


@pytest.fixture
def pictures(tmp_path):
    """A folder of pictures of several sizes and kinds."""
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    chance = np.random.default_rng(0)
    for name, shape in {"a.png": (28, 28), "b.jpg": (60, 40, 3), "more/c.gif": (10, 28)}.items():
        Image.fromarray(chance.integers(0, 256, shape, np.uint8)).save(folder / name)
    Image.new("RGBA", (30, 30)).save(folder / "d.png")
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_classify_images_by_name_by_folder_and_from_a_list(best, pictures, typed, capsys):
    checkpoint = best("ImageClassification")
    assert main(["classify", checkpoint, str(pictures)]) == 0
    expected = lines(capsys)
    names = [line.split("\t")[2] for line in expected]
    assert names == [str(pictures / name) for name in ("a.png", "b.jpg", "d.png", "more/c.gif")]
    assert main(["classify", checkpoint, *names]) == 0
    assert lines(capsys) == expected
    typed("\n".join(names).encode())
    assert main(["classify", checkpoint]) == 0
    assert lines(capsys) == expected


def test_generate(best, typed, capsys):
    checkpoint = best("Generation")
    flags = ["--max-new-tokens", "5", "--seed", "3"]
    assert main(["generate", checkpoint, "--prompt", "ROMEO:", *flags]) == 0
    once = capsys.readouterr().out
    assert once.startswith("ROMEO:")
    assert len(once) == 6 + 5 + 1
    typed(b"ROMEO:\n")
    assert main(["generate", checkpoint, *flags]) == 0
    assert capsys.readouterr().out == once
    for others in (["--greedy"], ["--top-k", "1"], ["--top-p", "0.0001"]):
        assert (
            main(["generate", checkpoint, "--prompt", "ROMEO:", *others, "--max-new-tokens=5"]) == 0
        )
    greedy = lines(capsys)
    assert greedy == [greedy[0]] * 3


def test_as_many_prompts_as_one_likes(best, typed, capsys):
    typed(b"RO\n" * 40)
    flags = ["--max-new-tokens", "9", "--seed", "3", "--temperature", "2"]
    assert main(["generate", best("Generation"), *flags]) == 0
    texts = capsys.readouterr().out.split("RO")[1:]
    assert len(texts) >= 40
    assert len(set(texts)) > 35


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--max-new-tokens", "0"], "--max-new-tokens must be at least 1, not 0"),
        (["--temperature", "0"], "temperature must be above 0"),
        (["--top-k", "0"], "top_k must be at least 1"),
        (["--top-p", "1.5"], "top_p must be in (0, 1]"),
        (["--temperatur", "1"], "unrecognized arguments: --temperatur 1"),
        (["--seed", "x"], "argument --seed: invalid int value: 'x'"),
        (["--device", "toaster"], "device 'toaster' cannot be used"),
    ],
)
def test_settings_that_cannot_be(best, capsys, flags, told):
    assert told in mistake(capsys, "generate", best("Generation"), "--prompt", "a", *flags)


@pytest.mark.parametrize("command", ["translate", "classify", "generate"])
def test_a_checkpoint_is_needed(command, best, capsys, tmp_path):
    assert "required: checkpoint" in mistake(capsys, command)
    nowhere = tmp_path / "no.ckpt"
    assert mistake(capsys, command, nowhere, "x") == f"no checkpoint at {nowhere}"
    assert "no checkpoint at" in mistake(capsys, command, tmp_path, "x")
    (tmp_path / "a.txt").write_text("no weights here")
    assert "cannot be read as a checkpoint" in mistake(capsys, command, tmp_path / "a.txt", "x")
    whole = tmp_path / "cut.ckpt"
    shutil.copy(best("Translation"), whole)
    os.truncate(whole, whole.stat().st_size // 2)
    assert "it is cut short" in mistake(capsys, command, whole, "x")


@pytest.mark.parametrize(
    ("command", "right"),
    [
        ("translate", ["Translation"]),
        ("classify", ["TextClassification", "ImageClassification"]),
        ("generate", ["Generation"]),
    ],
)
def test_a_checkpoint_of_another_task_is_told(command, right, best, capsys):
    needed = {"classify": "Classification"}.get(command, right[0])
    for task in set(TASKS) - set(right):
        told = mistake(capsys, command, best(task), "x")
        assert told.endswith(f"best.ckpt is of task {task}; this needs {needed}")


def test_a_text_too_long_stops_before_anything_is_printed(best, typed, capsys):
    content = b"short\n" * 40 + b"long " * 30 + b"\n"
    for command, task in (("translate", "Translation"), ("classify", "TextClassification")):
        typed(content)
        told = mistake(capsys, command, best(task))
        assert told == (
            "1 of 41 texts are longer than the model's 64 positions, the longest with 151 tokens; "
            "--truncate cuts them"
        )
        typed(content)
        assert main([command, best(task), "--truncate"]) == 0
        cut = capsys.readouterr()
        assert cut.out.count("\n") == 41
        assert cut.err == "1 text was cut to fit the model\n"


def test_input_that_is_no_text(best, typed, tmp_path, capsys):
    checkpoint = best("Translation")
    typed("好".encode() + b"\xff\xfe")
    assert mistake(capsys, "translate", checkpoint) == (
        "standard input is not UTF-8 text: byte 3 is 0xff"
    )
    for nothing in (b"", b"\n \n"):
        typed(nothing)
        assert mistake(capsys, "translate", checkpoint) == "standard input holds no text"
    file = tmp_path / "latin.txt"
    file.write_bytes("café".encode("latin-1"))
    assert "latin.txt is not UTF-8 text: byte 3 is 0xe9" in mistake(
        capsys, "translate", checkpoint, "--file", file
    )
    assert mistake(capsys, "translate", checkpoint, "--file", tmp_path / "no.txt") == (
        f"no such file or directory: {tmp_path / 'no.txt'}"
    )


def test_input_that_is_no_image(best, pictures, tmp_path, capsys):
    checkpoint = best("ImageClassification")
    assert "no image file at some text" in mistake(capsys, "classify", checkpoint, "some text")
    assert "notes.txt cannot be read as an image" in mistake(
        capsys, "classify", checkpoint, pictures / "notes.txt"
    )
    broken = pictures / "e.png"
    broken.write_bytes((pictures / "a.png").read_bytes()[:200])
    assert "e.png cannot be read as an image" in mistake(capsys, "classify", checkpoint, pictures)
    (tmp_path / "empty").mkdir()
    assert "no image files in" in mistake(capsys, "classify", checkpoint, tmp_path / "empty")


def test_an_image_that_unpacks_to_too_much_is_told(best, pictures, capsys, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    told = mistake(capsys, "classify", best("ImageClassification"), pictures / "a.png")
    assert "a.png cannot be read as an image" in told


def test_progress_is_shown_where_somebody_watches(capsys, monkeypatch):
    assert apply._with_progress([1, 2], 2, "trying") == [1, 2]
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes it for a terminal
    monkeypatch.setenv("TERM", "xterm")
    assert list(apply._with_progress(iter([1, 2]), 2, "trying")) == [1, 2]
    assert "trying" in capsys.readouterr().err


def tfzoo(*arguments: str, run=subprocess.run, **settings) -> subprocess.CompletedProcess:
    program = [sys.executable, "-c", "import sys, tfzoo.cli; sys.exit(tfzoo.cli.main())"]
    return run([*program, *arguments], capture_output=True, timeout=120, **settings)


@pytest.mark.slow
def test_as_a_shell_sees_it(best, tmp_path):
    """Nothing but the result on standard output, and nothing at all beside it; `head` may leave early."""
    checkpoint = best("Translation")
    found = tfzoo("translate", checkpoint, input="一些\nmore\n".encode(), cwd=tmp_path)
    assert (found.returncode, found.stderr) == (0, b"")
    assert found.stdout.count(b"\n") == 2
    assert not list(tmp_path.iterdir())
    bad = tfzoo("translate", checkpoint, input=b"\xff", cwd=tmp_path, run=forked.run)
    assert (bad.returncode, bad.stdout) == (2, b"")
    assert bad.stderr == b"tfzoo: error: standard input is not UTF-8 text: byte 0 is 0xff\n"


@pytest.mark.slow
def test_a_reader_that_leaves_is_no_mistake(best):
    program = [sys.executable, "-c", "import sys, tfzoo.cli; sys.exit(tfzoo.cli.main())"]
    command = [*program, "translate", best("Translation"), "--beam", "1"]
    with forked.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        process.stdin.write(b"some text\n" * 100)
        process.stdin.close()
        told = process.stderr.read()
        assert (process.wait(timeout=120), told) == (0, b"")


def test_a_prompt_too_long_is_read_from_its_end_and_counted(best, capsys):
    arguments = ["generate", best("Generation"), "--greedy", "--max-new-tokens", "3"]
    assert main([*arguments, "--prompt", "some text " * 60]) == 0
    told = capsys.readouterr()
    assert told.out.startswith("some text some text")
    assert told.err == "1 text was cut to fit the model\n"


@pytest.mark.slow
@pytest.mark.parametrize("network", ["lstm", "lstm-attention"])
def test_a_recurrent_network_is_trained_tested_and_translates(
    network, experiment, tmp_path, capsys
):
    fit = ["fit", "-c", str(experiment("Translation")), "--runs", str(tmp_path)]
    assert main([*fit, f"--model.backbone.network={network}", "--trainer.callbacks=null"]) == 0
    (run,) = (tmp_path / "translation").iterdir()
    best = str(run / "checkpoints/best.ckpt")
    drawn = {file.name.partition("-step")[0] for file in (run / "figures").glob("*-step*.png")}
    assert drawn == ({"alignment", "attention-cross"} if network == "lstm-attention" else set())
    assert main(["test", "--ckpt_path", best]) == 0
    capsys.readouterr()
    assert main(["translate", best, "some text", "more of it"]) == 0
    assert len(lines(capsys)) == 2
