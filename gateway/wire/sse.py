"""Server-sent events: a parser after the WHATWG algorithm and a writer (pure)."""

from __future__ import annotations

import msgspec

_BOM = b"\xef\xbb\xbf"
_FIELD_BYTES = len(b"data: ")
# An id is sent back as a header and a retry is a number: longer ones are of no use to anyone.
_MAX_ID_BYTES = 1024
_MAX_RETRY_DIGITS = 9


class Event(msgspec.Struct, frozen=True):
    """One event. `type` is `message` unless the stream says otherwise, `id` the last one seen."""

    data: bytes
    type: bytes
    id: bytes


class OversizedEvent(msgspec.Struct, frozen=True):
    """An event with more data than the limit; it was dropped whole. `id` is the last one seen."""

    id: bytes


class EventParser:
    """Cuts a byte stream into server-sent events.

    Lines end with CR, LF or CRLF; a byte-order mark at the start is skipped; an event that the
    stream does not finish is discarded. The time taken is linear in the bytes fed, whatever
    the chunks. An event with more than `max_event_bytes` of data is not kept: when it ends,
    one `OversizedEvent` stands in its place.

    `last_event_id` is what a reconnection sends as `Last-Event-ID` (b"" if the stream gave
    none), `retry_ms` the delay the stream asks for (None if it did not).
    """

    def __init__(self, max_event_bytes: int) -> None:
        self._max = max_event_bytes
        self._max_line = max_event_bytes + _FIELD_BYTES
        self._start = b""  # the first bytes, until they are known not to be part of a BOM
        self._started = False
        self._skip_lf = False
        self._partial = bytearray()  # the line that has not ended yet
        self._size = 0
        self._too_long = False
        self._data: bytes | bytearray | None = None  # None: the event has no data field so far
        self._oversized = False
        self._type = b""
        self._id = b""
        self.last_event_id = b""
        self.retry_ms: int | None = None

    @property
    def overflowing(self) -> bool:
        """Whether the event that has not ended yet is too large already."""
        return self._oversized or (self._too_long and self._partial.startswith(b"data:"))

    def feed(self, chunk: bytes) -> list[Event | OversizedEvent]:
        """The events that `chunk` completes, in order."""
        if not self._started:
            chunk = self._start + chunk
            if len(chunk) < len(_BOM) and _BOM.startswith(chunk):
                self._start = chunk
                return []
            self._started = True
            chunk = chunk.removeprefix(_BOM)
        if not chunk:
            return []
        if self._skip_lf and chunk.startswith(b"\n"):
            chunk = chunk[1:]
        if chunk:
            self._skip_lf = chunk.endswith(b"\r")
        else:
            self._skip_lf = False
        if b"\r" in chunk:
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        events: list[Event | OversizedEvent] = []
        *lines, rest = chunk.split(b"\n")
        for line in lines:
            if self._size:
                self._keep(line)
                line = self._take_line()
            self._line(line, events)
        self._keep(rest)
        return events

    def _keep(self, part: bytes) -> None:
        if not part:
            return
        self._size += len(part)
        if self._too_long:
            return
        self._partial += part
        if self._size > self._max_line:
            # Too long for an allowed event: all that still matters is which field it is.
            self._too_long = True
            del self._partial[self._max_line + 1 :]

    def _take_line(self) -> bytes:
        line = bytes(self._partial)
        self._partial = bytearray()
        self._size = 0
        self._too_long = False
        return line

    def _line(self, line: bytes, events: list[Event | OversizedEvent]) -> None:
        if not line:
            self._dispatch(events)
            return
        if line.startswith(b"data:"):  # nearly every line: looked at first
            self._add_data(line[6:] if line.startswith(b" ", 5) else line[5:])
            return
        name, _, value = line.partition(b":") if len(line) <= self._max_line else (b"", b"", b"")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._add_data(value)
        elif name == b"event":
            self._type = value
        elif name == b"id":
            if b"\0" not in value and len(value) <= _MAX_ID_BYTES:
                self._id = value
        elif name == b"retry" and value.isdigit() and len(value) <= _MAX_RETRY_DIGITS:
            self.retry_ms = int(value)

    def _add_data(self, value: bytes) -> None:
        if self._oversized:
            return
        if self._data is None:
            self._data = value
        else:
            if isinstance(self._data, bytes):
                self._data = bytearray(self._data)
            self._data += b"\n" + value
        if len(self._data) > self._max:
            self._oversized = True
            self._data = b""

    def _dispatch(self, events: list[Event | OversizedEvent]) -> None:
        self.last_event_id = self._id
        if self._oversized:
            events.append(OversizedEvent(self._id))
        elif self._data is not None:
            events.append(Event(bytes(self._data), self._type or b"message", self._id))
        self._data = None
        self._oversized = False
        self._type = b""


def event(data: bytes, event_id: str | None = None) -> bytes:
    """One event of type `message`, ready to be written.

    Raises ValueError where `data` or `event_id` would break out of its line.
    """
    if b"\n" in data or b"\r" in data:
        raise ValueError("the data of an event must not contain a line break")
    if event_id is None:
        return b"data: " + data + b"\n\n"
    if any(ch in event_id for ch in "\r\n\0"):
        raise ValueError("the id of an event must not contain a line break or NUL")
    return b"id: " + event_id.encode() + b"\ndata: " + data + b"\n\n"
