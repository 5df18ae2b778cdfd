"""Line framing: bytes in any chunks in, one frame per line out (pure)."""

from __future__ import annotations

from io import BytesIO

import msgspec

# Enough to find the `id` of a message, whichever end of the object it stands at.
KEPT_BYTES = 512


class Oversized(msgspec.Struct, frozen=True):
    """A frame that was longer than the limit and was dropped whole.

    `size_bytes` is its whole length; `head` and `tail` are its first and last bytes (up to
    `KEPT_BYTES` each), kept so that the id of the message can be looked for.
    """

    size_bytes: int
    head: bytes
    tail: bytes


class LineFramer:
    """Cuts a byte stream into lines at the byte 0x0A and nowhere else.

    A frame is a line without its end (0x0A, or 0x0D 0x0A). Empty lines are skipped. The time
    taken is linear in the bytes fed, whatever the chunks. A line of more than
    `max_frame_bytes` is not kept: when it ends, one `Oversized` stands in its place.
    """

    def __init__(self, max_frame_bytes: int) -> None:
        self._max = max_frame_bytes
        # Of the line that has not ended yet. A list of chunks would cost a stream of tiny ones more
        # memory than its bytes; a bytearray would have to be copied when the line ends.
        self._line = BytesIO()
        self._size = 0  # its bytes so far, dropped ones included
        self._dropping = False
        self._head = b""
        self._tail = b""

    def feed(self, chunk: bytes) -> list[bytes | Oversized]:
        """The frames that `chunk` completes, in order."""
        if b"\n" not in chunk:
            self._keep(chunk)
            return []
        first, *others, rest = chunk.split(b"\n")
        frames: list[bytes | Oversized] = []
        if self._size:
            self._keep(first)
            self._end_line(frames)
        else:
            self._whole_line(first, frames)
        for line in others:
            self._whole_line(line, frames)
        self._keep(rest)
        return frames

    def at_eof(self) -> list[bytes | Oversized]:
        """The last line, if the stream ended without a line end after it."""
        frames: list[bytes | Oversized] = []
        self._end_line(frames)
        return frames

    def _keep(self, part: bytes) -> None:
        if not part:
            return
        self._size += len(part)
        if self._dropping:
            self._head += part[: KEPT_BYTES - len(self._head)]
            self._tail = (self._tail + part[-KEPT_BYTES - 1 :])[-KEPT_BYTES - 1 :]
            return
        self._line.write(part)
        if self._size > self._max + 1:  # one more may still prove to be the 0x0D of the line end
            line = self._line.getvalue()
            self._dropping = True
            self._head = line[:KEPT_BYTES]
            self._tail = line[-KEPT_BYTES - 1 :]
            self._line = BytesIO()

    def _end_line(self, frames: list[bytes | Oversized]) -> None:
        if self._dropping:
            size, tail = self._size, self._tail
            if tail.endswith(b"\r"):
                size, tail = size - 1, tail[:-1]
            frames.append(Oversized(size, self._head[:size], tail[-KEPT_BYTES:]))
            self._dropping = False
            self._head = self._tail = b""
        else:
            line = self._line.getvalue()
            self._line = BytesIO()
            self._whole_line(line, frames)
        self._size = 0

    def _whole_line(self, line: bytes, frames: list[bytes | Oversized]) -> None:
        if line.endswith(b"\r"):
            line = line[:-1]
        if len(line) > self._max:
            frames.append(Oversized(len(line), line[:KEPT_BYTES], line[-KEPT_BYTES:]))
        elif line:
            frames.append(line)
