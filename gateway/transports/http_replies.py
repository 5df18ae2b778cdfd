"""The ways back to an HTTP client: the answer to a POST, the GET stream, what waits for either."""

from collections import deque
from collections.abc import Callable

from gateway.transports.http_resumption import EventLog, ResumableStream

_HELD_MESSAGES = 1_000
_FULL_BYTES = 4 * 1024 * 1024
_DRAINED_BYTES = 1024 * 1024


class MessageQueue:
    """Messages on their way into one response.

    `full` and `drained` are called when a slow client lets more than a few megabytes pile up, and
    when it has caught up; `changed`, which the writer of the response sets, at every message and at
    the end.
    """

    __slots__ = (
        "_abandoned",
        "_closed",
        "_drained",
        "_ended",
        "_frames",
        "_full",
        "_is_full",
        "_size_bytes",
        "changed",
    )

    def __init__(self, full: Callable[[], None], drained: Callable[[], None]) -> None:
        self.changed: Callable[[], None] = nothing
        self._frames: deque[bytes] = deque()
        self._size_bytes = 0
        self._is_full = False
        self._full = full
        self._drained = drained
        self._ended = False
        self._closed = False
        self._abandoned = False

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self._ended

    @property
    def spent(self) -> bool:
        """Whether everything has been taken, and nothing more will come."""
        return self._ended and not self._frames

    @property
    def abandoned(self) -> bool:
        """Whether the client closed the response."""
        return self._abandoned

    def put(self, frame: bytes) -> None:
        """Add a message; one that comes after `close` is dropped."""
        if self._closed:
            return
        self._frames.append(frame)
        self._size_bytes += len(frame)
        if self._size_bytes > _FULL_BYTES and not self._is_full:
            self._is_full = True
            self._full()
        self.changed()

    def end(self) -> None:
        """Nothing more will come."""
        if not self._ended:
            self._ended = True
            self.changed()

    def abandon(self) -> None:
        """The client has closed the response."""
        self._abandoned = True
        self.end()

    def take(self) -> bytes | None:
        """The next message, None where there is none now."""
        if not self._frames:
            return None
        frame = self._frames.popleft()
        self._size_bytes -= len(frame)
        if self._is_full and self._size_bytes < _DRAINED_BYTES:
            self._is_full = False
            self._drained()
        return frame

    def close(self) -> None:
        """The response is over: what is left is dropped."""
        self._closed = True
        self._frames.clear()
        self._size_bytes = 0
        if self._is_full:
            self._is_full = False
            self._drained()
        self.end()


class PostReply:
    """The answer to one POST. Is a Reply.

    It is a plain JSON body as long as nothing but answers comes; the first message of another kind
    turns it into an event stream. Where it cannot be one, because the client takes no event streams
    (`streams`) or the response is over, such a message goes to `outlet`. A stream that the client
    can resume goes on without it; `queue` feeds the first response.
    """

    __slots__ = (
        "_outlet",
        "_stream",
        "_streams",
        "answers",
        "code",
        "expected",
        "queue",
        "rejected",
        "streamed",
    )

    def __init__(self, queue: MessageQueue, outlet: "HttpOutlet", *, streams: bool) -> None:
        self.queue = queue
        self._outlet = outlet
        self._streams = streams
        self.expected = 0
        self.answers = 0
        self.rejected = False
        self.streamed = False
        self.code: int | None = None
        self._stream: ResumableStream | None = None

    @property
    def open(self) -> bool:
        """Whether messages can still go into it."""
        return not (self.queue.ended if self._stream is None else self._stream.finished)

    def begin(self, log: EventLog) -> ResumableStream | None:
        """The response becomes an event stream that can be resumed, if its client is there."""
        if self.queue.abandoned:
            return None
        self._stream = log.open(self.queue, self)
        self._stream.finished = self.queue.ended
        return self._stream

    def over(self) -> None:
        """The first response is over."""
        stream = self._stream
        if stream is not None and stream.named:
            if stream.break_off(self.queue):
                self._outlet.detach_reply(self)
            return
        if stream is not None:
            self._stream = None
            stream.forget()
        self._outlet.detach_reply(self)
        self.queue.close()

    def expect(self) -> None:
        """One more message will be answered."""
        self.expected += 1

    def answer(self, frame: bytes, code: int | None = None) -> None:
        """Answer one of them."""
        self.code = code
        self.answers += 1
        (self._stream or self.queue).put(frame)
        self._settle()

    def reject(self, frame: bytes) -> None:
        """Answer what was no acceptable message."""
        self.rejected = True
        self.answer(frame)

    def discard(self, frame: bytes) -> None:
        """Refuse what wants no answer; the status says so."""
        self.reject(frame)

    def withdraw(self) -> None:
        """One of them will not be answered."""
        self._settle()

    def send(self, frame: bytes) -> None:
        """Send what belongs to these requests before their answers."""
        if self._streams and self.open:
            self.streamed = True
            (self._stream or self.queue).put(frame)
        else:
            self._outlet.send(frame)

    def _settle(self) -> None:
        self.expected -= 1
        if self.expected:
            return
        if self._stream is None:
            self.queue.end()
        else:
            self._stream.finish()


class HttpOutlet:
    """The way to an HTTP client for what answers none of its requests. Is an Outlet.

    That is its GET stream; without one a POST under way, else it waits for either.
    """

    def __init__(self) -> None:
        self._stream: MessageQueue | None = None
        self._replies: dict[PostReply, None] = {}
        self._held: deque[bytes] = deque(maxlen=_HELD_MESSAGES)

    @property
    def busy(self) -> bool:
        """Whether the client is connected at this moment."""
        return self._stream is not None or bool(self._replies)

    def attach_stream(self, queue: MessageQueue) -> None:
        """The client has opened its GET stream; an older one ends."""
        if self._stream is not None:
            self._stream.end()
        self._stream = queue
        while self._held:
            queue.put(self._held.popleft())

    def detach_stream(self, queue: MessageQueue) -> None:
        """A GET stream is over."""
        if self._stream is queue:
            self._stream = None

    def attach_reply(self, reply: PostReply) -> None:
        """A POST waits for its answer in an event stream, if need be."""
        self._replies[reply] = None
        if self._stream is None:
            while self._held:
                reply.send(self._held.popleft())

    def detach_reply(self, reply: PostReply) -> None:
        """A POST is answered."""
        self._replies.pop(reply, None)

    def send(self, frame: bytes) -> None:
        """Send one message by the best way there is."""
        if self._stream is not None:
            self._stream.put(frame)
            return
        for reply in reversed(self._replies):
            if reply.open:
                reply.send(frame)
                return
        self._held.append(frame)

    def pause_reading(self) -> None:
        """A client over HTTP is held up by its own connections."""

    def resume_reading(self) -> None:
        """A client over HTTP is held up by its own connections."""

    def end(self) -> None:
        """The session is over: end the streams that are open."""
        if self._stream is not None:
            self._stream.end()
        for reply in tuple(self._replies):
            reply.queue.end()


class NoOutlet(HttpOutlet):
    """The way to a client that can be told nothing but answers."""

    def attach_reply(self, reply: PostReply) -> None:
        """Nothing waits for it."""

    def send(self, frame: bytes) -> None:
        """Drop a message."""


def nothing() -> None:
    """Nobody has to know."""
