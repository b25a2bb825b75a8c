"""All that is random in a training step, decided by the seed and the step alone."""

from __future__ import annotations

import os
import random

import numpy as np
import torch


def reseed(*key: int) -> None:
    """Let every global generator (Python's, numpy's, torch's on all devices) start anew from numbers.

    A resumed training thus draws what one that was never stopped draws, whatever was drawn in between, and no state of
    a generator has to be saved.
    """
    words = np.random.SeedSequence(key).generate_state(4)
    random.seed(int(words[0]))
    np.random.seed(words[1])
    torch.manual_seed(int(words[2]) << 32 | int(words[3]))


def global_seed() -> int | None:
    """What Lightning's `seed_everything` was given in this process; none where it was not called."""
    seed = os.environ.get("PL_GLOBAL_SEED")
    return int(seed) if seed else None
