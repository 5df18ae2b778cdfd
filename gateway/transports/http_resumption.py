"""What was sent on the event streams of a session, kept for a client whose stream broke off."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from gateway.transports.http_replies import MessageQueue, PostReply

KEPT_S = 300.0
"""How long an event is kept."""
KEPT_EVENTS = 256
"""Events kept for one session; the oldest are dropped."""
KEPT_BYTES = 8 * 1024 * 1024
"""What the events kept for one session may have together; a larger one is not kept at all."""
KEPT_BYTES_OF_ALL = 256 * 1024 * 1024
"""The same for all sessions of a server; beyond it nothing more is kept until some is dropped."""

_ID = re.compile(rb"([0-9]{1,12})-([0-9]{1,12})")


class Budget:
    """The bytes that the logs of all sessions may keep together."""

    def __init__(self, limit_bytes: int = KEPT_BYTES_OF_ALL) -> None:
        self.left_bytes = limit_bytes


class _Kept(NamedTuple):
    stream: ResumableStream
    number: int
    frame: bytes
    time_s: float


class ResumableStream:
    """One event stream, over however many responses: the first one, and those that resumed it.

    `queue` feeds the response that is open now; None while the client is away. `reply` is the POST
    that it answers, None for a stream of a GET. `named`: the client can know an event of it by id.
    `finished`: nothing more will come.
    """

    __slots__ = ("_log", "finished", "kept", "last", "named", "number", "queue", "reply")

    def __init__(
        self, log: EventLog, number: int, queue: MessageQueue, reply: PostReply | None
    ) -> None:
        self._log = log
        self.number = number
        self.queue: MessageQueue | None = queue
        self.reply = reply
        self.last = 0  # the number of its newest event
        self.kept = 0  # how many of its events the log has
        self.named = False
        self.finished = False

    def put(self, frame: bytes) -> None:
        """Add a message, for the response that is open or for the one to come."""
        if self.queue is not None:
            self.queue.put(frame)
        else:
            self._log.keep(self, frame)

    def finish(self) -> None:
        """Nothing more will come."""
        self.finished = True
        if self.queue is not None:
            self.queue.end()
        self._log.settle(self)

    def prime(self) -> str:
        """The id of the stream's beginning, before any event."""
        self.named = True
        return f"{self.number}-0"

    def sent(self, frame: bytes) -> str:
        """Keep a message that is being sent; its id."""
        self.named = True
        self._log.keep(self, frame)
        return f"{self.number}-{self.last}"

    def break_off(self, queue: MessageQueue) -> bool:
        """The response that `queue` fed is over; False where the stream goes on in another.

        What it did not send any more is kept, if the client can come back for it.
        """
        current = self.queue is queue
        if current:
            self.queue = None
            while self.named and (frame := queue.take()) is not None:
                self._log.keep(self, frame)
            self._log.settle(self)
        queue.close()
        return current

    def forget(self) -> None:
        """The client cannot come back to it, as it knows none of its events."""
        self.queue = None
        self._log.settle(self)


class EventLog:
    """The streams of one session, and the events of theirs that are kept.

    An event's id names its stream and its number there: unique within the session, of no use in
    another one.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._streams: dict[int, ResumableStream] = {}
        self._kept: deque[_Kept] = deque()
        self._size_bytes = 0
        self._last_number = 0
        self._closed = False

    def open(self, queue: MessageQueue, reply: PostReply | None = None) -> ResumableStream:
        """A new stream, fed by `queue`."""
        self._last_number += 1
        stream = ResumableStream(self, self._last_number, queue, reply)
        self._streams[stream.number] = stream
        return stream

    def resume(
        self, last_event_id: bytes, queue: MessageQueue
    ) -> tuple[ResumableStream, list[tuple[str, bytes]]] | None:
        """Go on with a stream in `queue`: the stream, and what was sent after that event.

        None where no event of that id was sent. Of what is kept no more, nothing is replayed.
        """
        named = _ID.fullmatch(last_event_id)
        stream = self._streams.get(int(named[1])) if named is not None else None
        if named is None or stream is None or not stream.named or int(named[2]) > stream.last:
            return None
        after, before = int(named[2]), stream.queue
        stream.queue = queue
        if before is not None:  # its connection is broken, and that did not show yet
            while (frame := before.take()) is not None:
                queue.put(frame)
            before.close()
        if stream.finished:
            queue.end()
        replayed = [
            (f"{stream.number}-{kept.number}", kept.frame)
            for kept in self._kept
            if kept.stream is stream and kept.number > after
        ]
        return stream, replayed

    def keep(self, stream: ResumableStream, frame: bytes) -> None:
        """Give a message its number, and keep it as far as the bounds allow."""
        stream.last += 1
        size_bytes = len(frame)
        if self._closed or size_bytes > KEPT_BYTES:
            return
        while self._kept and (
            len(self._kept) >= KEPT_EVENTS or self._size_bytes + size_bytes > KEPT_BYTES
        ):
            self._drop_oldest()
        if size_bytes > self._budget.left_bytes:
            return
        now_s = asyncio.get_running_loop().time()
        self._kept.append(_Kept(stream, stream.last, frame, now_s))
        stream.kept += 1
        self._size_bytes += size_bytes
        self._budget.left_bytes -= size_bytes

    def drop_before(self, time_s: float) -> None:
        """Drop what was sent before a time of the event loop's clock."""
        while self._kept and self._kept[0].time_s < time_s:
            self._drop_oldest()

    def settle(self, stream: ResumableStream) -> None:
        """Forget a stream that nobody can come back to for anything."""
        over = stream.finished or stream.reply is None or not stream.named
        if over and stream.queue is None and stream.kept == 0:
            self._streams.pop(stream.number, None)

    def close(self) -> None:
        """The session is over: end the responses that are open, keep nothing."""
        self._closed = True
        for stream in tuple(self._streams.values()):
            if stream.queue is not None:
                stream.queue.end()
        while self._kept:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        kept = self._kept.popleft()
        self._size_bytes -= len(kept.frame)
        self._budget.left_bytes += len(kept.frame)
        kept.stream.kept -= 1
        self.settle(kept.stream)
