"""Server-sent events, after the WHATWG algorithm."""

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.sse import Event, EventParser, OversizedEvent, event

LIMIT = 10
PARTS = st.sampled_from(
    [
        *(
            b"\n",
            b"\r",
            b"\r\n",
            b"\n\n",
            b"data",
            b":",
            b" ",
            b"data: x\n",
            b"data: 12345678901\n",
        ),
        *(b"id: 1", b"id\n", b"event:t\n", b"retry:5\n", b"\xef\xbb\xbf", b"\0", b"y" * 9),
    ]
)


def events_of(chunks: list[bytes], limit: int = 1000) -> list[Event | OversizedEvent]:
    parser = EventParser(limit)
    return [item for chunk in chunks for item in parser.feed(chunk)]


def message(data: bytes, event_id: bytes = b"") -> Event:
    return Event(data, b"message", event_id)


@given(st.lists(PARTS).map(b"".join), st.lists(st.integers(0, 200)))
def test_any_chunking_gives_the_same_events(stream: bytes, cuts: list[int]) -> None:
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    chunks = [stream[a:b] for a, b in itertools.pairwise(edges)]
    by_byte = [bytes([byte]) for byte in stream]
    assert events_of([stream], LIMIT) == events_of(chunks, LIMIT) == events_of(by_byte, LIMIT)


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_no_input_raises(chunks: list[bytes]) -> None:
    for item in events_of(chunks):
        assert isinstance(item, Event)


@given(
    st.lists(
        st.tuples(
            st.binary(max_size=30).filter(lambda data: not {10, 13} & set(data)),
            st.none() | st.text(max_size=5).filter(lambda text: not set(text) & set("\r\n\0")),
        )
    )
)
def test_what_the_writer_writes_the_parser_reads(sent: list[tuple[bytes, str | None]]) -> None:
    received = events_of([b"".join(event(data, event_id) for data, event_id in sent)])
    assert [item.data for item in received if isinstance(item, Event)] == [d for d, _ in sent]
    last = ""
    for item, (_, event_id) in zip(received, sent, strict=True):
        last = last if event_id is None else event_id
        assert item.id == last.encode()


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_each_kind_of_line_end(end: bytes) -> None:
    stream = end.join([b": hello", b"event: e", b"id: 7", b"data: a", b"data:b", b"", b""])
    assert events_of([stream]) == [Event(b"a\nb", b"e", b"7")]


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"\xef\xbb\xbfdata: x\n\n", [message(b"x")]),
        (b"\xef\xbb\xbf\xef\xbb\xbfdata: x\n\n", []),
        (b"data:  x\n\n", [message(b" x")]),
        (b"data\n\n", [message(b"")]),
        (b"data\ndata\n\n", [message(b"\n")]),
        (b"data:\n\n", [message(b"")]),
        (b"id: 1\n\ndata: x\n\n", [message(b"x", b"1")]),
        (b"id: 1\ndata: x\n\nid\ndata: y\n\n", [message(b"x", b"1"), message(b"y")]),
        (b"id: a\0b\ndata: x\n\n", [message(b"x")]),
        (b"event: e\n\ndata: x\n\n", [message(b"x")]),
        (b"Data: x\n data: y\ndatas: z\n\n", []),
        (b"data: never finished\n", []),
        (b"\n\n\n", []),
    ],
)
def test_the_corners_of_the_algorithm(stream: bytes, expected: list[Event]) -> None:
    assert events_of([stream]) == expected


def test_an_id_counts_for_reconnection_only_once_its_event_is_complete() -> None:
    parser = EventParser(100)
    parser.feed(b"id: 1\ndata: x\n")
    assert parser.last_event_id == b""
    parser.feed(b"\n")
    assert parser.last_event_id == b"1"


def test_retry_is_a_number_of_milliseconds_or_ignored() -> None:
    parser = EventParser(100)
    parser.feed(b"retry: 250\nretry: 1e3\nretry: -1\nretry:\nretry: 99999999999999\n")
    assert parser.retry_ms == 250


@pytest.mark.parametrize(
    "stream",
    [
        b"data: " + b"x" * (LIMIT + 1) + b"\n\n",
        b"data:" + b"x" * (LIMIT + 1) + b"\n\n",
        b"data: " + b"x" * 1000 + b"\ndata: y\n\n",
        b"data: xxxxx\ndata: xxxxx\n\n",
        b"data\n" * (LIMIT + 2) + b"\n",
    ],
)
def test_an_oversized_event_is_reported_once_and_reading_goes_on(stream: bytes) -> None:
    stream = b"id: 3\n" + stream + b"data: " + b"y" * LIMIT + b"\n\n"
    assert events_of([stream], LIMIT) == [OversizedEvent(b"3"), message(b"y" * LIMIT, b"3")]


def test_an_event_that_never_ends_is_seen_to_overflow() -> None:
    parser = EventParser(LIMIT)
    parser.feed(b"data: 1234567\n:" + b"x" * 100)
    assert not parser.overflowing
    parser.feed(b"\ndata:" + b"x" * 100)
    assert parser.overflowing
    assert parser.feed(b"\n\n") == [OversizedEvent(b"")]
    assert not parser.overflowing


def test_a_long_comment_is_not_an_oversized_event() -> None:
    stream = b":" + b"x" * 1000 + b"\nid: 1" + b"0" * 2000 + b"\ndata: x\n\n"
    assert events_of([stream], LIMIT) == [message(b"x")]


def test_a_large_event_takes_linear_time() -> None:
    size, chunk = 32 << 20, b"x" * (64 << 10)
    parser = EventParser(size)
    started = time.process_time()
    parser.feed(b"data: ")
    for _ in range(size // len(chunk)):
        parser.feed(chunk)
    (item,) = parser.feed(b"\r\n\r\n")
    assert time.process_time() - started < 5
    assert isinstance(item, Event)
    assert len(item.data) == size


@pytest.mark.parametrize(("data", "event_id"), [(b"a\nb", None), (b"a\r", None), (b"a", "1\n2")])
def test_the_writer_refuses_what_would_break_out_of_its_line(
    data: bytes, event_id: str | None
) -> None:
    with pytest.raises(ValueError, match="line break"):
        event(data, event_id)
