"""One connection to an upstream: requests under own ids, answers matched or dropped."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import msgspec

from gateway.audit.records import Status
from gateway.wire import frames
from gateway.wire.envelope import (
    MalformedFrame,
    Message,
    Notification,
    Request,
    Response,
    parse,
    split_batch,
)
from gateway.wire.methods import BATCH_REVISIONS
from gateway.wire.modern import MODERN_REVISIONS, RequestEnvelope, request_headers, with_envelope
from gateway.wire.params import Params, encode

if TYPE_CHECKING:
    from gateway.transports.upstream import UpstreamTransport
    from gateway.wire.lines import Oversized

_GUESS_BYTES = 256
_ID = re.compile(rb'"id"[ \t]*:[ \t]*([0-9]{1,18})[ \t]*[,}]')
_MAYBE_BATCH = b"[ \t\r\n"
"""How a frame begins that is not an object at once."""
_ABANDONED_KEPT = 10_000


class Failure(msgspec.Struct, frozen=True):
    """Why an upstream gave no answer: our error code, a sentence, a status for the record."""

    code: int
    reason: str
    status: Status


Answered = Callable[[Response | Failure], None]


class ConnectionOwner(Protocol):
    """What a connection reports to."""

    def asked(
        self, connection: "Connection", message: Request | Notification, request: int | None
    ) -> None:
        """The upstream asks or tells something; `request`: whose stream carried it, if known."""

    def lost(self, connection: "Connection", reason: str, detail: str) -> None:
        """The connection is gone by itself."""

    def dropped(self, event: str, data: dict[str, str | int | bool | None]) -> None:
        """Something that came from the upstream was not passed on."""

    def pause(self) -> None:
        """The upstream takes no more at the moment."""

    def resume(self) -> None:
        """It does again."""


class Connection:
    """The requests in flight on one transport. Implements UpstreamEvents.

    `modern` says whether the upstream speaks a stateless revision here. `envelope` is what requests
    of such a revision carry where they bring none of their own.
    """

    def __init__(self, name: str, owner: ConnectionOwner, envelope: RequestEnvelope) -> None:
        self.name = name
        self.envelope = envelope
        self.modern = False
        self._revision: str | None = None
        self.transport: UpstreamTransport | None = None
        self._owner = owner
        self._pending: dict[int, Answered] = {}
        self._abandoned: set[int] = set()
        self._last_id = 0
        self._over: Failure | None = None
        self._noises = 0

    @property
    def revision(self) -> str | None:
        """The negotiated protocol revision, once the handshake is done."""
        return self._revision

    @revision.setter
    def revision(self, revision: str) -> None:
        self._revision = revision
        self.modern = revision in MODERN_REVISIONS

    def next_id(self) -> int:
        """Take an id, for a request whose params must carry it."""
        self._last_id += 1
        return self._last_id

    def request(self, method: str, params: Params, answered: Answered) -> int:
        """Send a request; `answered` is called exactly once, unless it is abandoned."""
        identifier = self.next_id()
        self.send(identifier, method, params, answered)
        return identifier

    def send(
        self,
        identifier: int,
        method: str,
        params: Params,
        answered: Answered,
        *,
        envelope: RequestEnvelope | None = None,
        schema: object = None,
    ) -> None:
        """Send a request under an id from `next_id`.

        `envelope` replaces the connection's own; `schema` is the input schema of a tool that is
        called, which may want some arguments in headers too.
        """
        if self._over is not None or self.transport is None:
            answered(self._over or Failure(frames.UNAVAILABLE, "not connected", "upstream_lost"))
            return
        headers = None
        if self.modern or method == "server/discover":
            chosen = envelope or self.envelope
            params = with_envelope(params, chosen)
            headers = request_headers(method, params, chosen.revision, schema)
        self._pending[identifier] = answered
        encoded = encode(params) if params else None
        self.transport.send(frames.request(identifier, method, encoded), identifier, headers)

    def notify(self, method: str, params: Params) -> None:
        """Send a notification; it is lost when the upstream is.

        The stateless revisions have none but cancellation, and that only over stdio, where
        `abandon` sends it.
        """
        if not self.modern:
            self.respond(frames.notification(method, encode(params) if params else None))

    def respond(self, frame: bytes) -> None:
        """Send an answer to one of the upstream's own requests."""
        if self._over is None and self.transport is not None:
            self.transport.send(frame, None)

    def abandon(self, identifier: int, params: dict[str, object]) -> None:
        """Cancel a request: tell the upstream, and drop the answer if one still comes."""
        if self._pending.pop(identifier, None) is None:
            return
        if len(self._abandoned) < _ABANDONED_KEPT:
            self._abandoned.add(identifier)
        if self.transport is not None:
            if not (self.modern and self.transport.closes_streams):
                cancelled = encode({**params, "requestId": identifier})
                self.respond(frames.notification("notifications/cancelled", cancelled))
            self.transport.abandon(identifier)

    def end(self, failure: Failure) -> None:
        """Answer everything in flight with `failure`, and every later request too."""
        self._over = failure
        pending, self._pending = self._pending, {}
        for answered in pending.values():
            answered(failure)

    # UpstreamEvents

    def frame_received(self, frame: bytes, request: int | None) -> None:
        """Take one frame, or each member of a batch where the revision has them."""
        if frame[:1] not in _MAYBE_BATCH:
            self._member_received(frame, request)
            return
        try:
            members = split_batch(frame)
            if members is not None and self.revision not in BATCH_REVISIONS:
                raise MalformedFrame("batches are not part of this protocol revision")
        except MalformedFrame as malformed:
            self._refuse(malformed.reason, frame[:_GUESS_BYTES], frame[-_GUESS_BYTES:], request)
            return
        for member in [frame] if members is None else members:
            self._member_received(member, request)

    def frame_dropped(self, dropped: "Oversized") -> None:
        """A message over the size limit."""
        reason = f"a message of {dropped.size_bytes} bytes is more than max_result_bytes allows"
        self._refuse(reason, dropped.head, dropped.tail, None)

    def request_failed(self, request: int | None, reason: str) -> None:
        """HTTP: the exchange that carried the request failed."""
        if request is None:
            self._owner.dropped("upstream.message_lost", {"reason": reason})
            return
        answered = self._pending.pop(request, None)
        if answered is not None:
            sentence = f"the upstream {self.name!r} failed the request: {reason}"
            answered(Failure(frames.UPSTREAM_LOST, sentence, "upstream_lost"))

    def waiting_for(self, request: int) -> bool:
        """Whether the answer to `request` is still wanted."""
        return request in self._pending

    def noise(self, size_bytes: int) -> None:
        """Output that is no message; only the first of a connection is recorded."""
        self._noises += 1
        if self._noises == 1:
            self._owner.dropped("upstream.noise", {"size_bytes": size_bytes})

    def pause(self) -> None:
        """The upstream's input is full."""
        self._owner.pause()

    def resume(self) -> None:
        """The upstream's input has drained."""
        self._owner.resume()

    def closed(self, reason: str, detail: str) -> None:
        """The transport is gone."""
        if self._over is None:
            self._owner.lost(self, reason, detail)

    # Messages

    def _member_received(self, member: bytes, request: int | None) -> None:
        if self._over is not None:
            return
        try:
            message = parse(member, mend_surrogates=True)
        except MalformedFrame as malformed:
            self._refuse(malformed.reason, member[:_GUESS_BYTES], member[-_GUESS_BYTES:], request)
            return
        self._take(message, request)

    def _take(self, message: Message, request: int | None) -> None:
        if not isinstance(message, Response):
            self._owner.asked(self, message, request)
            return
        identifier = message.id
        answered = self._pending.pop(identifier, None) if isinstance(identifier, int) else None
        if answered is not None:
            answered(message)
        elif isinstance(identifier, int) and identifier in self._abandoned:
            self._abandoned.discard(identifier)
        else:
            shown = identifier[:64] if isinstance(identifier, str) else identifier
            self._owner.dropped("frame.orphan", {"id": shown})

    def _refuse(self, reason: str, head: bytes, tail: bytes, request: int | None) -> None:
        """Drop an unusable frame, and fail the request it answers if that can be told.

        The id is guessed only among our own open requests: at worst an upstream fails its own call.
        """
        self._owner.dropped("frame.refused", {"reason": reason})
        if request is None:
            guesses = set(_ID.findall(head + b" " + tail))
            request = int(guesses.pop()) if len(guesses) == 1 else None
        if request is not None:
            self.request_failed(request, reason)
