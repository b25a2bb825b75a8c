"""The parser of an experiment's config."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.cli import LightningArgumentParser


class WholeKeys(LightningArgumentParser):
    """LightningCLI's parser, without shortened keys at any depth, and with mistakes raised.

    A shortened key would be taken for the one it begins, and a mistyped one is often that.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # jsonargparse makes the parsers of inner classes by the type of the outer one.
        super().__init__(*args, **{"allow_abbrev": False, "exit_on_error": False, **kwargs})
