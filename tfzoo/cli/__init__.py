"""The command line: `tfzoo fit`, `translate`, `demo` and the rest."""

from tfzoo.cli.main import main

__all__ = ["main"]
