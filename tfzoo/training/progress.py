"""Where a training stands, when it goes on with another number of devices."""

from __future__ import annotations

from typing import Any


def share_anew(loop: dict[str, Any], theirs: int, ours: int) -> None:
    """Let the state of a fit loop, which counts the batches of one device, count those of one among `ours`.

    All devices together have taken as many batches as before; the data's samplers do the same for themselves.
    """
    batches = loop["epoch_loop.batch_progress"]
    for progress in (batches["total"], batches["current"]):
        for stage, count in progress.items():
            progress[stage] = count * theirs // ours
