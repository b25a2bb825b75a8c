"""Which command is run, what it costs to ask, and how commands end."""

import os
import resource
import subprocess
import sys

import pytest

import tfzoo
from tfzoo.cli import main
from tfzoo.cli.main import COMMANDS, Command
from tfzoo.cli.mistakes import is_mistake, one_line

PROGRAM = [sys.executable, "-c", "import sys, tfzoo.cli; sys.exit(tfzoo.cli.main())"]


def fail_with(monkeypatch, error: BaseException) -> None:
    def failing(self):
        def command(arguments):
            raise error

        return command

    monkeypatch.setattr(Command, "load", failing)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_help_lists_every_command_in_a_line(arguments, capsys):
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, command in COMMANDS.items():
        (line,) = [line for line in lines if line.split()[:1] == [name]]
        assert line.endswith(command.summary)
    assert max(map(len, lines)) <= 80


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"tfzoo {tfzoo.__version__}\n"


def test_every_command_is_there():
    assert {
        "fit",
        "validate",
        "test",
        "predict",
        "translate",
        "classify",
        "generate",
        "demo",
    } <= set(COMMANDS)
    for command in COMMANDS.values():
        assert callable(command.load())


def test_it_is_a_module_too():
    ran = subprocess.run(
        [sys.executable, "-m", "tfzoo", "--version"], capture_output=True, text=True, check=True
    )
    assert ran.stdout == f"tfzoo {tfzoo.__version__}\n"


@pytest.mark.slow
def test_help_answers_at_once():
    script = "import sys; from tfzoo.cli import main; main(['--help']); print(*sys.modules)"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    modules = set(found.stdout.splitlines()[-1].split())
    assert not modules & {"torch", "lightning", "datasets", "numpy", "wandb", "jsonargparse"}
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.3


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("fitt", "no command 'fitt', did you mean 'fit'?; tfzoo --help lists them"),
        ("xyz", "no command 'xyz'; tfzoo --help lists them"),
        ("--hlp", "no command '--hlp'; tfzoo --help lists them"),
    ],
)
def test_a_mistyped_command(name, told, capsys):
    assert main([name]) == 2
    assert capsys.readouterr().err == f"tfzoo: error: {told}\n"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("heads must\n  divide dim"), "heads must divide dim"),
        (ValueError(), "ValueError"),
        (
            FileNotFoundError(2, "No such file or directory", "a.txt"),
            "no such file or directory: a.txt",
        ),
        (PermissionError(13, "Permission denied", "a.txt"), "permission denied: a.txt"),
        (OSError(28, "No space left on device", "a.txt"), "no space left on the disk for a.txt"),
        (OSError("said by us"), "said by us"),
        (
            ValueError(
                "Caught ValueError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
                '  File "x.py", line 1, in f\n    raise ValueError("a: b")\nOSError: x\n\nThe above exception was the '
                "direct cause of the following exception:\n\nTraceback (most recent call last):\n"
                '  File "x.py", line 2, in g\n    g()\nValueError: row 3: bad\n  ValueError: is said\n'
            ),
            "row 3: bad ValueError: is said",
        ),
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "),
            "a process that prepares batches died (killed by signal: Killed), most often because memory ran out: "
            "set data.workers lower, 0 for none",
        ),
        (
            RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly"),
            "a process that prepares batches died (exited unexpectedly), most often because memory ran out: "
            "set data.workers lower, 0 for none",
        ),
    ],
)
def test_a_mistake_is_one_line(error, told, monkeypatch, capsys):
    fail_with(monkeypatch, error)
    assert main(["fit"]) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", f"tfzoo: error: {told}\n")


def test_where_it_came_from_can_be_asked(monkeypatch, capsys):
    fail_with(monkeypatch, ValueError("wrong"))
    monkeypatch.setenv("TFZOO_TRACEBACK", "1")
    assert main(["fit"]) == 2
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert told.endswith("tfzoo: error: wrong\n")


@pytest.mark.parametrize(
    "fault", [RuntimeError("a bug"), KeyError("x"), AssertionError(), TypeError()]
)
def test_a_fault_of_ours_is_no_mistake(fault, monkeypatch):
    assert not is_mistake(fault)
    fail_with(monkeypatch, fault)
    with pytest.raises(type(fault)):
        main(["fit"])


def test_an_interruption_is_told(monkeypatch, capsys):
    fail_with(monkeypatch, KeyboardInterrupt())
    assert main(["fit"]) == 130
    assert capsys.readouterr().err == "tfzoo: interrupted\n"


def test_other_messages_are_left_as_they_are():
    # What parsers say is put into other words, what we say is not.
    message = "the file holds: Expected a dot import path string: Cosin"
    assert one_line(ValueError(message)) == message


@pytest.mark.slow
def test_a_reader_that_leaves_ends_it_quietly():
    with subprocess.Popen(
        [*PROGRAM, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ}
    ) as process:
        process.stdout.close()
        told = process.stderr.read()
        assert process.wait(timeout=60) == 0
        assert told == b""
