"""The file of a W&B run, read record by record: what a killed process left at its end is no record.

W&B writes the log format of LevelDB (github.com/google/leveldb, doc/log_format.md) after a header of 7 bytes: blocks of
32 KiB, in which a record lies whole or in parts, each with checksum (CRC-32), length and kind.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

STEP = "trainer/global_step"
"""The metric that W&B draws every other over."""
BLOCK = 32 * 1024
HEADER = 7  # bytes, of the file as of a part of a record
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4


class Content(NamedTuple):
    """What a file holds up to `end`, in bytes: rows of history, and the training step of the last of them, from 0."""

    end: int
    rows: int
    step: int | None


def records(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Each whole record, and where it ends; ends before the first one that is not."""
    place, parts = HEADER, b""
    while True:
        if BLOCK - place % BLOCK < HEADER:
            place += BLOCK - place % BLOCK  # filled up with zeros
        if place + HEADER > len(content):
            return
        checksum, length, kind = struct.unpack_from("<IHB", content, place)
        data = content[place + HEADER : place + HEADER + length]
        if len(data) < length or not WHOLE <= kind <= LAST:
            return
        if zlib.crc32(data, zlib.crc32(bytes([kind]))) != checksum:
            return
        place += HEADER + length
        parts = data if kind in (WHOLE, FIRST) else parts + data
        if kind in (WHOLE, LAST):
            yield place, parts


def written(header: bytes, contents: Iterable[bytes]) -> bytes:
    """A file of these records, each in as many parts as it meets blocks."""
    file = bytearray(header)
    for content in contents:
        begins = True
        while begins or content:
            room = BLOCK - len(file) % BLOCK
            if room < HEADER:
                file += bytes(room)
                continue
            part, content = content[: room - HEADER], content[room - HEADER :]
            kind = (MIDDLE if content else LAST) if not begins else FIRST if content else WHOLE
            file += struct.pack(
                "<IHB", zlib.crc32(part, zlib.crc32(bytes([kind]))), len(part), kind
            )
            file += part
            begins = False
    return bytes(file)


def without_rows(content: bytes, until: int) -> bytes:
    """The file without the rows of history up to a place: those that the server has, which would count twice."""
    every = zip(records(content), steps(content), strict=True)
    kept = [data for (end, data), (_, _, is_row) in every if end > until or not is_row]
    return written(content[:HEADER], kept)


def steps(content: bytes) -> list[tuple[int, int | None, bool]]:
    """Of each whole record where it ends, and of rows of history the training step.

    Returns (end, step, whether it is a row); a row may have no step.
    """
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]

    found = []
    for end, data in records(content):
        record = Record.FromString(data)
        is_row = record.WhichOneof("record_type") == "history"
        found.append((end, _step(record.history) if is_row else None, is_row))
    return found


def _step(history: Any) -> int | None:
    for item in history.item:
        if STEP in (item.key, *item.nested_key):
            return int(json.loads(item.value_json))
    return None


def first_step(found: list[tuple[int, int | None, bool]]) -> int | None:
    return next((step for _, step, _ in found if step is not None), None)


def before(found: list[tuple[int, int | None, bool]], step: int | None) -> Content:
    """What of a file counts where a later life of the run began again with a training step: the rows before it.

    All of it where there was none. A picture may be logged a step ahead of its figures, which follow.
    """
    kept = [
        place
        for place, (_, at, is_row) in enumerate(found)
        if is_row and (step is None or at is None or at < step)
    ]
    if step is not None:
        following = kept[-1] + 1 if kept else 0
        rest = range(following, len(found))
        cut = next((place for place in rest if found[place][2]), len(found))
        found = found[:cut]
    rows = [at for _, at, is_row in found if is_row]
    known = [at for at in rows if at is not None]
    return Content(found[-1][0] if found else HEADER, len(rows), known[-1] if known else None)
