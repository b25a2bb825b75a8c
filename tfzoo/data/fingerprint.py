"""A hash of what the rows of a split say, the same on every machine, whatever file or cache they were read from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Image

from tfzoo.data.bars import bar

WHOLE = 1 << 30  # bytes of content that are hashed whole
SAMPLE = 1 << 26  # bytes of content, about, that are hashed of a larger split
PROBE = 1000  # rows by which the size of a split is estimated
BATCH = 1000  # rows hashed at a time: part of what the hash means

Feed = Callable[[Any], Any]  # of bytes, or whatever lies in memory as they do


def fingerprint(rows: Dataset) -> dict[str, Any]:
    """How many rows, and the hash of their content, column by column.

    Of a split above a gibibyte an even sample of rows is hashed, and `sampled` says how many. Images count by their
    bytes, those in files of their own by the file's name as well; folders never count.
    """
    probe = _evenly(rows, PROBE)
    sizes = [0]
    _feed_rows(probe, lambda content: sizes.append(memoryview(content).nbytes))
    each = max(1, sum(sizes) // max(1, len(probe)))
    found: dict[str, Any] = {"rows": len(rows)}
    if each * len(rows) > WHOLE:
        rows = _evenly(rows, max(1, SAMPLE // each))
        found["sampled"] = len(rows)
    digest = hashlib.blake2b(digest_size=16)
    _feed_rows(rows, digest.update)
    return found | {"hash": digest.hexdigest()}


def _evenly(rows: Dataset, count: int) -> Dataset:
    if count >= len(rows):
        return rows
    return rows.select(np.arange(count) * len(rows) // count)


def _feed_rows(rows: Dataset, feed: Feed) -> None:
    images = [name for name, kind in rows.features.items() if isinstance(kind, Image)]
    feed("\0".join(rows.column_names).encode())
    tables = rows.with_format("arrow").iter(BATCH)
    for table in bar(tables, "Hashing the data", -(-len(rows) // BATCH)):
        for name in rows.column_names:
            column = table.column(name).combine_chunks()
            if name in images:
                _feed_images(column, feed)
            else:
                _feed(column, feed)


def _feed_images(column: pa.Array, feed: Feed) -> None:
    """column: (N,) of {"bytes": ..., "path": ...}."""
    for stored in column.to_pylist():
        stored = stored or {"bytes": None, "path": None}
        content = stored["bytes"]
        if content is None and stored["path"] is not None:
            file = Path(stored["path"])
            feed(file.name.encode())
            content = file.read_bytes() if file.is_file() else None
        feed(np.int64(-1 if content is None else len(content)).tobytes())
        feed(content or b"")


def _feed(array: pa.Array, feed: Feed) -> None:
    """The values of an arrow array, with where it has none; neither its chunks nor its offsets count."""
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks)
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    kind = array.type
    feed(np.packbits(array.is_null().to_numpy(zero_copy_only=False)))
    if pa.types.is_struct(kind):
        for place in range(kind.num_fields):
            feed(kind.field(place).name.encode())
            _feed(pc.struct_field(array, [place]), feed)
    elif _is_list(kind):
        feed(pc.fill_null(pc.list_value_length(array), 0).to_numpy().astype("<i8"))
        _feed(pc.list_flatten(array), feed)
    elif _is_text(kind):
        array = pc.fill_null(array.cast(pa.large_binary()), b"")
        feed(pc.binary_length(array).to_numpy().astype("<i8"))
        start, stop = _bounds(array)
        feed(memoryview(array.buffers()[2] or b"")[start:stop])
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
        values = pc.fill_null(array, pa.scalar(0, kind)).to_numpy(zero_copy_only=False)
        feed(np.ascontiguousarray(values, values.dtype.newbyteorder("<")))
    elif not pa.types.is_null(kind):  # truth values, times, decimals and the like are few
        feed(repr(array.to_pylist()).encode())


def _bounds(array: pa.Array) -> tuple[int, int]:
    """Where the content of an array of large binaries begins and ends in its buffer."""
    if not len(array):
        return 0, 0
    offsets = np.frombuffer(array.buffers()[1], "<i8")[array.offset :]
    return int(offsets[0]), int(offsets[len(array)])


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    views = types.is_string_view(kind) or types.is_binary_view(kind)
    plain = types.is_string(kind) or types.is_binary(kind) or types.is_fixed_size_binary(kind)
    return views or plain or types.is_large_string(kind) or types.is_large_binary(kind)
