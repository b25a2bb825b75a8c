"""What is known of devices that are not here: how fast they are at most, and how much they hold."""

from __future__ import annotations

import difflib
import re

import torch
from lightning.fabric.utilities.throughput import _CUDA_FLOPS

BYTES = {
    "B": 1,
    **{f"{prefix}B": 10 ** (3 * power) for power, prefix in enumerate("KMGT", 1)},
    **{f"{prefix}iB": 2 ** (10 * power) for power, prefix in enumerate("KMGT", 1)},
}


def peak_flops(device: str, dtype: torch.dtype | str) -> float:
    """Floating-point operations a second of a device, dense, as its maker promises them.

    dtype: of the products; "tfloat32" for float32 by tensor cores.
    Raises ValueError for a device or a dtype that is in no table.
    """
    name = device.lower().removeprefix("nvidia ").strip()
    if name not in _CUDA_FLOPS:
        close = [known for known in _CUDA_FLOPS if name and name in known]
        close = close or difflib.get_close_matches(name, _CUDA_FLOPS, n=4, cutoff=0.3)
        raise ValueError(
            f"no device {device!r} is known; nearest are {', '.join(close or _CUDA_FLOPS)}; "
            "--device-flops says the peak of any other"
        )
    table = _CUDA_FLOPS[name]
    if dtype not in table:
        known = ", ".join(str(kind).removeprefix("torch.") for kind in table)
        raise ValueError(
            f"{name} has no peak for {str(dtype).removeprefix('torch.')}, only for {known}: "
            "choose another precision, or say --device-flops"
        )
    # Of these the table has the figures for two cards at once, or (from 16 bits down) for sparse matrices.
    pair = name == "h100 nvl"
    short = dtype == "tfloat32" or getattr(dtype, "itemsize", 4) == 2
    sparse = name.startswith("h200") and short
    return table[dtype] / (2 if pair or sparse else 1)


def memory_size(text: str) -> int:
    """Bytes of a size such as 80GB, 80GiB or 24576MiB. Raises ValueError for another."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?i?B)\s*", text)
    if not found or found[2] not in BYTES or not float(found[1]):
        raise ValueError(f"a memory size is written like 80GB, 80GiB or 24576MiB, not {text!r}")
    return int(float(found[1]) * BYTES[found[2]])
