"""Where a training stands, when it goes on with another number of devices."""

from __future__ import annotations

from typing import Any


def share_anew(loop: dict[str, Any], theirs: int, ours: int) -> None:
    """Let the state of a fit loop, which counts the batches of one device, count those of one among `ours`.

    All devices together have taken as many batches as before; the data's samplers do the same for themselves.
    """
    batches = loop["epoch_loop.batch_progress"]
    for progress in (batches["total"], batches["current"]):
        # A batch that was under way, begun and not yet completed, still is.
        ready = progress["ready"]
        progress.update({k: ready * theirs // ours - (ready - n) for k, n in progress.items()})
