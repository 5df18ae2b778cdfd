"""One client session's standing with one upstream: begun on demand, restarted with backoff."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine
from typing import Literal, Protocol

import msgspec

from gateway.catalog.listing import UpstreamCatalog, build_catalog
from gateway.catalog.pins import Drift
from gateway.relay.connection import Connection, Failure
from gateway.relay.listening import Ear, Wanted
from gateway.relay.negotiation import Greeting, Negotiation, error_text
from gateway.relay.opening import upstream_envelope
from gateway.relay.pages import LIST_MEMBERS, Pages
from gateway.transports.upstream import UpstreamTransport, UpstreamUnavailable
from gateway.wire import frames
from gateway.wire.envelope import Notification, Request, Response
from gateway.wire.modern import (
    RequestEnvelope,
    without_envelope,
    without_round,
)
from gateway.wire.params import Params

_FIRST_BACKOFF_S = 0.5
_LONGEST_BACKOFF_S = 30.0
_STARTS_IN_A_ROW = 5
_GIVE_UP_START_S = 300.0
_DROPPED_RECORDED = 200
"""Frames of one connection that are recorded singly when they are dropped."""
_DRIFT_RECORDED = 500
"""Changes of pinned definitions that one link records; an upstream may change without end."""
_NEWS_OF_TOOLS = Wanted(frozenset(("toolsListChanged",)))


State = Literal["idle", "starting", "ready", "backoff", "stopped"]
Ready = Callable[[Failure | None], None]
Data = dict[str, str | int | bool | None]
Compare = Callable[[UpstreamCatalog, object], Collection[Drift]]
"""What a catalog and the upstream's instructions have that is not as it was pinned."""


class LinkOwner(Protocol):
    """The client session that a link belongs to."""

    def upstream_asked(
        self, link: "UpstreamLink", message: Request | Notification, request: int | None
    ) -> None:
        """The upstream asks or tells something; `request`: whose stream carried it, if known."""

    def upstream_event(self, link: "UpstreamLink", event: str, data: Data) -> None:
        """Something for the record: a start, an exit, a dropped message."""

    def upstream_ready(self, link: "UpstreamLink") -> None:
        """The handshake is done."""

    def upstream_lost(self, link: "UpstreamLink") -> None:
        """The connection is gone; its requests to the client have no asker now."""

    def pause_client(self) -> None:
        """The upstream cannot take more at the moment."""

    def resume_client(self) -> None:
        """It can again."""


class UpstreamLink:
    """The session with the upstream `name`.

    `open_transport` makes an unstarted transport that reports to the given connection. `answer` is
    the upstream's answer to `initialize` or `server/discover`; `wanted` and `log_level` are what a
    stateless upstream is to be told in place of subscriptions and a log level. All methods run on
    the event loop and return at once.
    """

    def __init__(
        self,
        name: str,
        owner: LinkOwner,
        open_transport: Callable[[Connection], Awaitable[UpstreamTransport]],
        *,
        greeting: Greeting,
        start_timeout_s: float,
        max_items: int,
        shared: bool = False,
        compare: Compare = lambda _catalog, _instructions: (),
    ) -> None:
        self.name = name
        self._max_items = max_items
        self.shared = shared
        self.greeting = greeting
        self.catalog: UpstreamCatalog | None = None
        self.answer: dict[str, object] | None = None
        self.wanted = Wanted()
        self.log_level: str | None = None
        self.connection = Connection(name, self, greeting.envelope)
        self._owner = owner
        self._open_transport = open_transport
        self._start_timeout_s = start_timeout_s
        self._loop = asyncio.get_running_loop()
        self._state: State = "idle"
        self._loss = Failure(frames.UNAVAILABLE, f"the upstream {name!r} is not started", "error")
        self._ready_waiting: dict[Ready, asyncio.TimerHandle] = {}
        self._catalog_waiting: list[Ready] = []
        self._changes_told = 0
        self._changes_listed = 0
        self._compare = compare
        self._drift: set[Drift] = set()
        self._always = Wanted()
        self._ear = Ear()
        self._dropped = 0
        self._failed_starts = 0
        self._negotiation: Negotiation | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def ready(self) -> bool:
        """Whether the handshake is done and the connection stands."""
        return self._state == "ready"

    @property
    def state(self) -> State:
        """How it stands: "backoff" is after a loss, before the next attempt."""
        return self._state

    @property
    def catalog_stale(self) -> bool:
        """Whether the tools changed since the listing began that the catalog is from."""
        return self._changes_told != self._changes_listed

    def start(self) -> None:
        """Begin connecting, unless that is under way or done."""
        if self._state == "idle":
            self._connect()

    def when_ready(self, then: Ready) -> None:
        """Call `then(None)` once the upstream is ready, or `then(failure)`, in bounded time.

        An upstream that failed to start again and again is not waited for: each such request
        begins one more attempt and fails at once with the last reason.
        """
        if self._state == "ready":
            then(None)
            return
        exhausted = self._failed_starts >= _STARTS_IN_A_ROW
        self.start()
        if self._state == "stopped" or exhausted:
            then(self._loss)
            return
        timer = self._loop.call_later(self._start_timeout_s, self._waited_too_long, then)
        self._ready_waiting[then] = timer

    def with_catalog(self, then: Ready, *, fresh: bool = False) -> None:
        """Call `then(None)` once the tool listing is known.

        A listing that the upstream called outdated since it began will do, unless one that is
        `fresh` is wanted.
        """
        if self.catalog is not None and not (fresh and self.catalog_stale):
            then(None)
            return
        self._catalog_waiting.append(then)
        if len(self._catalog_waiting) == 1:
            self.list_all("tools/list", self._catalog_read)

    def mark_catalog_stale(self) -> None:
        """The upstream says that its tools changed."""
        self._changes_told += 1

    def list_all(self, method: str, then: Callable[[Pages | Failure], None]) -> None:
        """Read every page of a listing; `tools/list` also renews the catalog."""
        pages = Pages(LIST_MEMBERS[method], self._max_items)
        told = 0

        def ask(failure: Failure | None) -> None:
            nonlocal told
            if failure is not None:
                then(failure)
                return
            told = self._changes_told
            self.connection.request(method, pages.next_params(), answered)

        def answered(response: Response | Failure) -> None:
            if isinstance(response, Failure):
                then(response)
                return
            outcome = pages.add(response)
            if outcome == "more":
                self.connection.request(method, pages.next_params(), answered)
                return
            if outcome == "failed":
                reason = pages.problem or error_text(response)
                sentence = f"the upstream {self.name!r} could not answer {method}: {reason}"
                then(Failure(frames.UPSTREAM_LOST, sentence, "error"))
                return
            if method == "tools/list":
                self.catalog = build_catalog(self.name, pages.items)
                self._changes_listed = told
                self._record_drift(self.catalog)
            then(pages)

        self.when_ready(ask)

    def dressed(
        self, params: Params, envelope: RequestEnvelope | None
    ) -> tuple[Params, RequestEnvelope | None]:
        """A client's params and envelope as this upstream's era and its grants want them."""
        if not self.connection.modern:
            return without_envelope(without_round(params)), None
        if envelope is None:
            own = self.greeting.envelope
            return params, msgspec.structs.replace(own, log_level=self.log_level)
        return params, upstream_envelope(
            envelope.capabilities, envelope.client, self.greeting.permissions, envelope.log_level
        )

    def want(self, wanted: Wanted) -> None:
        """Listen to these news of a stateless upstream; one of the other era tells all."""
        self.wanted = wanted
        self._ear.want(wanted | self._always)

    def follow_tools(self) -> None:
        """Listen to changes of the tools, whether the client wants to know of them or not."""
        self._always = _NEWS_OF_TOOLS
        self.want(self.wanted)

    def listen_to(self, uri: str) -> None:
        """A handshake client subscribes to a resource of a stateless upstream."""
        self.want(Wanted(self.wanted.flags, self.wanted.resources | {uri}))

    def unlisten_to(self, uri: str) -> None:
        """It does so no more."""
        self.want(Wanted(self.wanted.flags, self.wanted.resources - {uri}))

    def pause_reading(self) -> None:
        """The client takes no more for now."""
        if self.connection.transport is not None:
            self.connection.transport.pause_reading()

    def resume_reading(self) -> None:
        """The client reads again."""
        if self.connection.transport is not None:
            self.connection.transport.resume_reading()

    async def stop(self, grace_s: float) -> None:
        """End the session and what runs for it; later requests fail at once."""
        if self._state == "stopped":
            return
        self._state = "stopped"
        self._loss = Failure(
            frames.UNAVAILABLE, f"the session with the upstream {self.name!r} is over", "unanswered"
        )
        self._cancel_timer()
        self._ear.close()
        self._record_flood()
        transport = self.connection.transport
        self._fail_all()
        for task in tuple(self._tasks):
            if task.get_name() == "open":
                task.cancel()
        if transport is not None:
            await transport.stop(grace_s)
            self._owner.upstream_event(self, "upstream.stopped", {})
        if self._tasks:
            await asyncio.wait(self._tasks)

    # ConnectionOwner

    def asked(
        self, connection: Connection, message: Request | Notification, request: int | None
    ) -> None:
        """Pass on what the upstream asks or tells, once it may."""
        if connection is self.connection and self._state == "ready":
            self._owner.upstream_asked(self, message, request)
        elif isinstance(message, Request) and message.method == "ping":
            connection.respond(frames.result(message.id, b"{}"))
        else:
            self.dropped("frame.early", {"method": message.method[:64]})

    def lost(self, connection: Connection, reason: str, detail: str) -> None:
        """Fail what is in flight now, and begin again after a pause."""
        if connection is self.connection:
            self._lose(reason, detail)

    def dropped(self, event: str, data: Data) -> None:
        """Record what was not passed on; a flood is counted, and recorded when it is over."""
        self._dropped += 1
        if self._dropped <= _DROPPED_RECORDED:
            self._owner.upstream_event(self, event, data)

    def pause(self) -> None:
        """Stop taking messages from the client."""
        self._owner.pause_client()

    def resume(self) -> None:
        """Take messages from the client again."""
        self._owner.resume_client()

    # Starting

    def _connect(self) -> None:
        self._cancel_timer()
        self._state = "starting"
        self.connection = Connection(self.name, self, self.greeting.envelope)
        self._spawn(self._open(self.connection), "open")

    def _spawn(self, coroutine: Coroutine[object, object, None], name: str) -> None:
        task = self._loop.create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _open(self, connection: Connection) -> None:
        try:
            transport = await self._open_transport(connection)
            await transport.start()
        except UpstreamUnavailable as unavailable:
            self._lose(f"did not start: {unavailable.reason}", unavailable.detail)
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, its clients must be told
            self._lose(f"did not start: {type(error).__name__} in the gateway", "")
            return
        connection.transport = transport
        self._timer = self._loop.call_later(_GIVE_UP_START_S, self._give_up_start)
        self._owner.upstream_event(self, "upstream.started", {"attempt": self._failed_starts + 1})
        self._negotiation = Negotiation(connection, self.greeting, self._adopt, self._failed)
        self._negotiation.begin()

    def _give_up_start(self) -> None:
        self._lose(f"gave no answer to initialize within {_GIVE_UP_START_S:.0f} s", "")

    def _failed(self, reason: str) -> None:
        self._lose(reason, "")

    def _adopt(self, revision: str, answer: dict[str, object]) -> None:
        self._cancel_timer()
        self.answer = answer
        self._failed_starts = 0
        self._state = "ready"
        self._owner.upstream_event(self, "upstream.ready", {"protocol": revision})
        self._owner.upstream_ready(self)
        self._ear.connect(self.connection)
        self._flush_ready(None)

    # Losing

    def _lose(self, reason: str, detail: str) -> None:
        """The connection is unusable: fail what waits, and try again after a pause."""
        if self._state in ("backoff", "stopped"):
            return
        sentence = f"the upstream {self.name!r} {reason}"
        if detail:
            sentence += f"; its last output: {detail}"
        self._loss = Failure(frames.UPSTREAM_LOST, sentence, "upstream_lost")
        self._state = "backoff"
        self._record_flood()
        self.catalog = None
        self._failed_starts += 1
        transport = self.connection.transport
        if transport is not None:
            self._spawn(transport.stop(0.0), "stop")
        self._owner.upstream_event(self, "upstream.exited", {"reason": reason})
        self._fail_all()
        self._owner.upstream_lost(self)
        pause_s = min(_FIRST_BACKOFF_S * 2.0 ** (self._failed_starts - 1), _LONGEST_BACKOFF_S)
        self._cancel_timer()
        self._timer = self._loop.call_later(pause_s, self._backoff_over)

    def _backoff_over(self) -> None:
        self._timer = None
        self._state = "idle"
        if self._failed_starts < _STARTS_IN_A_ROW:
            self._connect()

    def _record_drift(self, catalog: UpstreamCatalog) -> None:
        """Record once what is not as it was pinned."""
        for drift in self._compare(catalog, (self.answer or {}).get("instructions")):
            if drift in self._drift or len(self._drift) >= _DRIFT_RECORDED:
                continue
            self._drift.add(drift)
            data: Data = {
                "part": drift.part,
                "pinned": drift.pinned,
                "now": drift.now,
                "withheld": drift.withheld,
            }
            if drift.tool:
                self._owner.upstream_event(self, "tool.changed", {"tool": drift.tool, **data})
            else:
                self._owner.upstream_event(self, "instructions.changed", data)

    def _record_flood(self) -> None:
        suppressed, self._dropped = self._dropped - _DROPPED_RECORDED, 0
        if suppressed > 0:
            self._owner.upstream_event(self, "frames.suppressed", {"count": suppressed})

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._negotiation is not None:
            self._negotiation.end()
            self._negotiation = None

    def _fail_all(self) -> None:
        self.connection.end(self._loss)
        self._flush_ready(self._loss)
        self._catalog_read(self._loss)

    def _flush_ready(self, failure: Failure | None) -> None:
        waiting, self._ready_waiting = self._ready_waiting, {}
        for then, timer in waiting.items():
            timer.cancel()
            then(failure)

    def _waited_too_long(self, then: Ready) -> None:
        if self._ready_waiting.pop(then, None) is not None:
            reason = f"the upstream {self.name!r} is still starting; try again in a while"
            then(Failure(frames.UNAVAILABLE, reason, "timeout"))

    def _catalog_read(self, outcome: Pages | Failure) -> None:
        waiting, self._catalog_waiting = self._catalog_waiting, []
        failure = outcome if isinstance(outcome, Failure) else None
        for then in waiting:
            then(failure)
