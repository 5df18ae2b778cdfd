"""Answers to listings: what the upstreams offer, cut to what a call could reach."""

import asyncio
from collections.abc import Callable, Mapping

import msgspec

from gateway.catalog.names import tool_id
from gateway.policy.arguments import narrowed
from gateway.policy.values import Action, Context
from gateway.relay.authority import Authority
from gateway.relay.connection import Failure
from gateway.relay.link import UpstreamLink
from gateway.relay.pages import LIST_MEMBERS, Pages
from gateway.relay.routes import ResourceRoutes
from gateway.relay.surface import Surface

_GATHERING_S = 8.0
"""How long an aggregate listing waits for its slowest upstream."""
_CALLED_BY_NAME = ("tools/list", "prompts/list")
"""Listings whose items are called by their name, not by a URI."""


class Listing(msgspec.Struct, frozen=True):
    """A whole listing as one agent sees it. `offered` counts what the upstreams offered.

    `members` are those of the result; `missing` are upstreams that have not answered. `ttl_ms` is
    how long the upstream calls the listing fresh.
    """

    members: dict[str, object]
    offered: int
    shown: int
    missing: tuple[str, ...] = ()
    ttl_ms: int | None = None


Listed = Callable[[Listing | Failure], None]


class Lister:
    """The listings of one session.

    `links` are the upstreams in use; `routes` learns whose resource a URI is; `changed` tells the
    client to list its tools again, when an upstream comes late.
    """

    def __init__(
        self,
        authority: Authority,
        surface: Surface,
        links: Mapping[str, UpstreamLink],
        routes: ResourceRoutes,
        changed: Callable[[], None],
    ) -> None:
        self._authority = authority
        self._surface = surface
        self._links = links
        self._routes = routes
        self._changed = changed
        self._listed_without: set[str] = set()

    def list_one(self, method: str, link: UpstreamLink, then: Listed) -> None:
        """The complete listing of one upstream."""

        def read(outcome: Pages | Failure) -> None:
            if isinstance(outcome, Failure):
                then(outcome)
                return
            items = self._reachable(method, link, outcome.items)
            then(
                Listing(
                    outcome.members(items),
                    len(outcome.items),
                    len(items),
                    ttl_ms=outcome.ttl_ms,
                )
            )

        link.list_all(method, read)

    def list_all(self, method: str, then: Listed) -> None:
        """The merged listing of every upstream that has something for this agent.

        It is complete, or what has come when time is up; what comes later is announced.
        """
        links = [link for link in self._links.values() if self._may_list(method, link.name)]
        if method == "tools/list":
            self._listed_without.clear()

        def gathered(pages: dict[str, Pages], missing: tuple[str, ...]) -> None:
            items: list[object] = []
            for link in links:
                if link.name in pages:
                    self._routes.learn(link.name, pages[link.name].items)
                    items += self._reachable(method, link, pages[link.name].items)
            if method == "tools/list":
                self._listed_without.update(missing)
            offered = sum(len(each.items) for each in pages.values())
            members: dict[str, object] = {LIST_MEMBERS[method]: items}
            then(Listing(members, offered, len(items), missing))

        _Gathering(method, links, gathered).begin()

    def upstream_ready(self, link: UpstreamLink) -> None:
        """An upstream is there (again): announce it where a listing went out without it."""
        if link.name in self._listed_without:
            self._listed_without.discard(link.name)
            self._changed()

    def _may_list(self, method: str, upstream: str) -> bool:
        if method == "tools/list":
            return True
        if method == "prompts/list":
            return self._allows(Action("prompt", method, upstream), Context())
        return self._allows(Action("resource", method, upstream), Context())

    def _reachable(self, method: str, link: UpstreamLink, items: list[object]) -> list[object]:
        """The items that this agent could reach, under the names of this connection.

        Tools are decided one by one, with the catalog that this very listing made.
        """
        context = Context(catalog=link.catalog)
        kept: list[object] = []
        for item in items:
            if not isinstance(item, dict):
                continue
            name = item.get("name")
            if method == "tools/list" and not (
                isinstance(name, str)
                and self._allows(Action("tool", method, link.name, name), context)
            ):
                continue
            if method == "tools/list" and isinstance(name, str):
                item = self._narrowed(item, link.name, name)
            if self._surface.aggregate and method in _CALLED_BY_NAME and isinstance(name, str):
                item = {**item, "name": self._surface.expose(link.name, name)}
            kept.append(item)
        return kept

    def _narrowed(self, item: dict[str, object], upstream: str, name: str) -> dict[str, object]:
        """A tool with the limits that rules set for the agent, so that a model knows them."""
        agent = self._authority.identity.agent
        snapshot = self._authority.snapshot
        schema = item.get("inputSchema")
        if agent is None or not snapshot.rules or not isinstance(schema, dict):
            return item
        rules = snapshot.rules.applying(agent, tool_id(upstream, name))
        return {**item, "inputSchema": narrowed(schema, rules)} if rules else item

    def _allows(self, action: Action, context: Context) -> bool:
        return self._authority.decide(action, context).reachable


class _Gathering:
    """The same listing of several upstreams, asked at once; `then` is called exactly once."""

    def __init__(
        self,
        method: str,
        links: list[UpstreamLink],
        then: Callable[[dict[str, Pages], tuple[str, ...]], None],
    ) -> None:
        self._method = method
        self._links = links
        self._then = then
        self._pages: dict[str, Pages] = {}
        self._waiting = {link.name for link in links}
        self._failed: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._over = False

    def begin(self) -> None:
        """Ask every upstream."""
        self._timer = asyncio.get_running_loop().call_later(_GATHERING_S, self._finish)
        for link in self._links:
            link.list_all(self._method, self._reader(link.name))
        if not self._links:
            self._finish()

    def _reader(self, upstream: str) -> Callable[[Pages | Failure], None]:
        def read(outcome: Pages | Failure) -> None:
            if isinstance(outcome, Pages):
                self._pages[upstream] = outcome
            elif outcome.status != "error":
                self._failed.add(upstream)  # not there; "error" means it has no such listing
            self._waiting.discard(upstream)
            if not self._waiting:
                self._finish()

        return read

    def _finish(self) -> None:
        if self._over:
            return
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        missing = self._failed | self._waiting
        self._then(self._pages, tuple(link.name for link in self._links if link.name in missing))


NO_TOOLS = Listing({"tools": []}, 0, 0)
"""The listing of an agent that may use nothing."""
