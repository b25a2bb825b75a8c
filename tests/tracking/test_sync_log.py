"""What of a W&B run's file is whole, and what of it a later life did once more."""

from __future__ import annotations

import json
import struct
import zlib

import pytest
from wandb.proto.wandb_internal_pb2 import Record

from tfzoo.tracking.sync_log import (
    BLOCK,
    HEADER,
    STEP,
    before,
    first_step,
    records,
    steps,
    without_rows,
    written,
)


def log(*contents: bytes) -> bytes:
    """A file of records as LevelDB and W&B write it, those that cross a block's end in parts."""
    file = bytearray(b":W&B\xe1\xbe\x00")
    for content in contents:
        left, is_first = content, True
        while True:
            room = BLOCK - len(file) % BLOCK
            if room < HEADER:
                file += bytes(room)
                continue
            part, left = left[: room - HEADER], left[room - HEADER :]
            kind = {(True, True): 1, (True, False): 2, (False, False): 3, (False, True): 4}[
                is_first, not left
            ]
            checksum = zlib.crc32(bytes([kind]) + part)
            file += struct.pack("<IHB", checksum, len(part), kind) + part
            is_first = False
            if not left:
                break
    return bytes(file)


def row(step: int, **more: str) -> bytes:
    record = Record()
    for key, value in {STEP: str(step), **more}.items():
        record.history.item.add(nested_key=[key], value_json=json.dumps(value) if key != STEP else value)  # fmt: skip
    return record.SerializeToString()


CONTENTS = [b"a" * 100, b"b" * 40_000, b"c" * 3, b"d" * 70_000]


def test_all_records_are_read_wherever_blocks_end():
    # Before the last one a block is left with less room than a header needs.
    odd = b"e" * (2 * BLOCK - len(log(*CONTENTS[:2])) % BLOCK - BLOCK - HEADER - 3)
    file = log(*CONTENTS[:2], odd, *CONTENTS[2:])
    assert [data for _, data in records(file)] == [*CONTENTS[:2], odd, *CONTENTS[2:]]
    assert [end for end, _ in records(file)][-1] == len(file)


def test_records_are_written_as_they_are_read():
    assert written(log()[:HEADER], CONTENTS) == log(*CONTENTS)


def test_rows_that_were_sent_are_left_out():
    said = Record()
    said.config.update.add(key="a", value_json="1")
    other = said.SerializeToString()
    file, sent = log(row(0), other, row(1), row(2), other), len(log(row(0), other, row(1)))
    assert without_rows(file, 0) == file
    assert without_rows(file, sent) == log(other, row(2), other)


@pytest.mark.parametrize("lost", [1, 5, 4000, 37_000, 70_010])
def test_a_file_cut_anywhere_ends_with_its_last_whole_record(lost):
    file = log(*CONTENTS)
    found = list(records(file[:-lost]))
    assert [data for _, data in found] == CONTENTS[:3]
    assert file[: found[-1][0]] == log(*CONTENTS[:3])


def test_a_damaged_record_ends_it():
    file = bytearray(log(*CONTENTS))
    file[len(log(*CONTENTS[:1])) + 20] ^= 1
    assert [data for _, data in records(bytes(file))] == CONTENTS[:1]
    assert list(records(b"")) == []


class TestLives:
    """A picture is logged with the number of steps done, one more than the figures of its step."""

    FILE = log(*(row(i) for i in range(4)), row(4, picture="p"), row(3), *(row(i) for i in (4, 5)))

    def test_a_life_without_another_counts_whole(self):
        assert before(steps(self.FILE), None) == (len(self.FILE), 8, 5)
        assert first_step(steps(self.FILE)) == 0

    def test_what_a_later_life_did_again_does_not_count(self):
        kept = before(steps(self.FILE), 4)
        assert (kept.rows, kept.step) == (6, 3)
        assert self.FILE[: kept.end] == log(*(row(i) for i in range(4)), row(4, picture="p"), row(3))  # fmt: skip

    def test_a_life_done_again_from_its_beginning(self):
        assert before(steps(self.FILE), 0).rows == 0
