"""What a checkpoint says of the best ones, where their folder has been moved or copied since."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import ModelCheckpoint


def at_home(state: dict[str, Any], callback: ModelCheckpoint) -> dict[str, Any]:
    """The state of a ModelCheckpoint with its files where that callback keeps them now.

    Lightning forgets the best score where the folder is another, and the first validation of a resumed run would
    overwrite the best checkpoint by a worse one. A state whose files did not come along is left as it is.
    """
    before, home = state.get("dirpath"), callback.dirpath
    if not before or not home or Path(before) == Path(home):
        return state

    def here(path: str) -> str:
        file = Path(path)
        return str(Path(home) / file.relative_to(before)) if file.is_relative_to(before) else path

    kept = {here(path): score for path, score in state.get("best_k_models", {}).items()}
    if not all(Path(path).exists() for path in kept):
        return state
    names = ("best_model_path", "kth_best_model_path", "last_model_path")
    paths = {name: here(state[name]) for name in names if state.get(name)}
    return state | paths | {"dirpath": str(home), "best_k_models": kept}
