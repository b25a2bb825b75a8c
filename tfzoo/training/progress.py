"""Where a training stands, when it goes on with another number of devices."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.utilities import rank_zero_warn


def share_anew(loop: dict[str, Any], theirs: int, ours: int) -> None:
    """Let the state of a fit loop, which counts the batches of one device, count those of one among `ours`.

    All devices together have taken as many batches as before, less what cannot be shared out, which is read again and
    told; the data's samplers do the same for themselves.
    """
    batches = loop["epoch_loop.batch_progress"]
    taken = batches["current"]["ready"]
    for progress in (batches["total"], batches["current"]):
        # A batch that was under way, begun and not yet completed, still is.
        ready = progress["ready"]
        now = ready * theirs // ours
        progress.update({stage: max(0, now - (ready - n)) for stage, n in progress.items()})
    if again := taken * theirs % ours:
        rank_zero_warn(
            f"{again} batches of this epoch are read again: {taken * theirs} were taken, "
            f"which {ours} devices cannot share"
        )
