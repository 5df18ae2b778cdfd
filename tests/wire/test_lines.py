"""Frames are lines, cut at 0x0A only, whatever the chunks they arrive in."""

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.lines import KEPT_BYTES, LineFramer, Oversized

LIMIT = 12
ALPHABET = st.sampled_from([b"\n", b"\r", b"\r\n", b"a", b"{}", b"\xe2\x80\xa8", b"x" * 9])


def frames_of(chunks: list[bytes], limit: int = LIMIT) -> list[bytes | Oversized]:
    framer = LineFramer(limit)
    frames = [frame for chunk in chunks for frame in framer.feed(chunk)]
    return frames + framer.at_eof()


def reference(stream: bytes) -> list[bytes | Oversized]:
    expected: list[bytes | Oversized] = []
    for part in stream.split(b"\n"):
        line = part[:-1] if part.endswith(b"\r") else part
        if len(line) > LIMIT:
            expected.append(Oversized(len(line), line[:KEPT_BYTES], line[-KEPT_BYTES:]))
        elif line:
            expected.append(line)
    return expected


@given(st.lists(ALPHABET).map(b"".join), st.lists(st.integers(0, 80)))
def test_any_chunking_gives_the_same_frames(stream: bytes, cuts: list[int]) -> None:
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    chunks = [stream[a:b] for a, b in itertools.pairwise(edges)]
    assert frames_of(chunks) == frames_of([bytes([byte]) for byte in stream]) == reference(stream)


def test_a_frame_comes_with_the_chunk_that_ends_it() -> None:
    framer = LineFramer(100)
    assert framer.feed(b'{"a":') == []
    assert framer.feed(b"1}\r\n[2]\n{") == [b'{"a":1}', b"[2]"]
    assert framer.feed(b"}\n") == [b"{}"]
    assert framer.at_eof() == []


@pytest.mark.parametrize("odd", ["\u2028", "\u0085", "\v", "\f", "\x1c", "\r"])
def test_only_a_line_feed_ends_a_line(odd: str) -> None:
    line = f'{{"a":"x{odd}y"}}'.encode()
    assert frames_of([line + b"\n"], limit=100) == [line]


def test_only_one_carriage_return_is_part_of_the_line_end() -> None:
    assert frames_of([b"a\r\r\n"]) == [b"a\r"]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_the_limit_counts_the_line_without_its_end(end: bytes) -> None:
    assert frames_of([b"x" * LIMIT + end]) == [b"x" * LIMIT]
    assert frames_of([b"x" * LIMIT, end]) == [b"x" * LIMIT]
    too_long = b"x" * (LIMIT + 1)
    assert frames_of([too_long, end]) == [Oversized(LIMIT + 1, too_long, too_long)]


def test_an_oversized_line_is_reported_once_with_both_ends_and_reading_goes_on() -> None:
    line = b'{"id":7,' + b"x" * 10_000 + b',"id":8}'
    chunks = [line[at : at + 999] for at in range(0, len(line), 999)]
    frames = frames_of([b"{}\n", *chunks, b"\n[]\n"])
    assert frames == [b"{}", Oversized(len(line), line[:KEPT_BYTES], line[-KEPT_BYTES:]), b"[]"]


def test_an_oversized_line_costs_no_memory_beyond_the_limit() -> None:
    framer = LineFramer(1000)
    for _ in range(100):
        assert framer.feed(b"x" * 1000) == []
        assert framer._line.getbuffer().nbytes <= 2000
    (dropped,) = framer.feed(b"\n")
    assert isinstance(dropped, Oversized)
    assert dropped.size_bytes == 100_000


def test_a_long_line_takes_linear_time() -> None:
    size, chunk = 64 << 20, b"x" * (64 << 10)
    framer = LineFramer(size)
    started = time.process_time()
    for _ in range(size // len(chunk)):
        framer.feed(chunk)
    (frame,) = framer.feed(b"\n")
    # A framer that rescans or rejoins at every chunk needs minutes for this.
    assert time.process_time() - started < 5
    assert isinstance(frame, bytes)
    assert len(frame) == size
