"""An upstream that one process or connection serves for many client sessions (`shared: true`).

Only a stateless upstream may be shared. It is told of no client capabilities, so it has nothing to
ask of anybody: a question could not be attributed to one of the sessions.
"""

import asyncio

from gateway.relay.connection import Connection
from gateway.relay.gateway import Gateway
from gateway.relay.hearing import Hearing
from gateway.relay.link import Data, UpstreamLink
from gateway.relay.listening import NEWS_OF_LISTS, Wanted
from gateway.relay.negotiation import own_greeting
from gateway.transports.upstream import UpstreamTransport
from gateway.wire import frames
from gateway.wire.envelope import MalformedFrame, Notification, Request
from gateway.wire.params import decode_params

_FOR_ALL = frozenset(
    (
        "notifications/cancelled",
        "notifications/progress",
        "notifications/prompts/list_changed",
        "notifications/resources/list_changed",
        "notifications/resources/updated",
        "notifications/subscriptions/acknowledged",
        "notifications/tasks/status",
        "notifications/tools/list_changed",
    )
)
"""What every session may hear of, or can tell by itself whether it is meant."""


class SharedUpstreams:
    """The shared upstreams of one gateway, begun when a session first uses one."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._shared: dict[str, SharedUpstream] = {}

    def join(self, name: str, member: Hearing) -> UpstreamLink:
        """The link to a shared upstream, which a session uses from now on."""
        shared = self._shared.get(name)
        if shared is None:
            shared = self._shared[name] = SharedUpstream(self._gateway, name)
        return shared.join(member)

    def leave(self, member: Hearing) -> None:
        """A session is over; the upstreams stay."""
        for shared in self._shared.values():
            shared.leave(member)

    async def close(self, grace_s: float) -> None:
        """End all of them."""
        await asyncio.gather(*(each.link.stop(grace_s) for each in self._shared.values()))


class SharedUpstream:
    """The one link to such an upstream, and the sessions that use it. Is its LinkOwner."""

    def __init__(self, gateway: Gateway, name: str) -> None:
        self._gateway = gateway
        self._members: set[Hearing] = set()
        self.link = UpstreamLink(
            name,
            self,
            self._open_transport,
            greeting=own_greeting(),
            start_timeout_s=gateway.limits[name].start_timeout_s,
            max_items=gateway.limits[name].max_tools,
            shared=True,
            compare=gateway.in_force.heard,
        )
        gateway.links.add(self.link)
        self.link.want(Wanted(NEWS_OF_LISTS))

    def join(self, member: Hearing) -> UpstreamLink:
        """A session uses the upstream from now on."""
        self._members.add(member)
        self.link.start()
        return self.link

    def leave(self, member: Hearing) -> None:
        """It does so no more; the upstream stays."""
        self._members.discard(member)

    async def _open_transport(self, connection: Connection) -> UpstreamTransport:
        return await self._gateway.open_transport(self.link.name, connection)

    def _hearers(self, link: UpstreamLink, method: str, request: int | None) -> tuple[Hearing, ...]:
        """Whom a notification concerns: one that says what a call does, such as a line of a log,
        its caller alone, and nobody where it cannot be told who that is."""
        if method in _FOR_ALL:
            return tuple(self._members)
        callers = tuple(each for each in self._members if each.calls_on(link, request))
        return callers if len(callers) == 1 else ()

    # LinkOwner

    def upstream_asked(
        self, link: UpstreamLink, message: Request | Notification, request: int | None
    ) -> None:
        """Tell the sessions what the upstream tells; it has nothing to ask."""
        if isinstance(message, Request):
            if message.method == "ping":
                link.connection.respond(frames.result(message.id, b"{}"))
            else:
                code = frames.METHOD_NOT_FOUND
                link.connection.respond(frames.error(message.id, code, "Method not found"))
            return
        try:
            params = decode_params(message.params)
        except MalformedFrame as malformed:
            self.upstream_event(link, "frame.refused", {"reason": malformed.reason})
            return
        if message.method == "notifications/tools/list_changed":
            link.mark_catalog_stale()  # also where no session is there to hear of it
        hearers = self._hearers(link, message.method, request)
        if not hearers and message.method not in _FOR_ALL:
            link.dropped("frame.dropped", {"method": message.method[:64]})
        for member in hearers:
            member.told(link, message.method, params, request)

    def upstream_event(self, link: UpstreamLink, event: str, data: Data) -> None:
        """Record what happened to the upstream; it belongs to no session."""
        self._gateway.recorder.event(event, data, upstream=link.name)

    def upstream_ready(self, link: UpstreamLink) -> None:
        """Keep the handshake's answer, and let the sessions know."""
        for member in tuple(self._members):
            member.upstream_ready(link)

    def upstream_lost(self, link: UpstreamLink) -> None:
        """It has asked nothing, so there is nothing to withdraw."""

    def pause_client(self) -> None:
        """One session must not be held up for another; what piles up is bounded by its calls."""

    def resume_client(self) -> None:
        """Nobody was held up."""
