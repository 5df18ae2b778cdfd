"""Answers to listings: what the upstreams offer, cut to what a call could reach."""

import asyncio
import hashlib
from collections.abc import Callable

import msgspec

from gateway.identity.identity import Identity
from gateway.policy.decide import decide
from gateway.policy.snapshot import Snapshot
from gateway.policy.values import Action, Context
from gateway.relay.connection import Failure
from gateway.relay.link import UpstreamLink
from gateway.relay.pages import LIST_MEMBERS, Pages
from gateway.relay.surface import Surface

_CALLED_BY_NAME = ("tools/list", "prompts/list")
"""Listings whose items are called by their name, not by a URI."""

Listed = Callable[["Listing | Failure"], None]


class Listing(msgspec.Struct, frozen=True):
    """A whole listing as one agent sees it. `offered` counts what the upstreams offered.

    `missing` are upstreams that have not answered.
    """

    result: bytes
    offered: int
    shown: int
    digest: str
    missing: tuple[str, ...] = ()


class Filter:
    """Decides listed items one by one, with the same function that decides calls."""

    def __init__(self, snapshot: Snapshot, identity: Identity, surface: Surface) -> None:
        self._snapshot = snapshot
        self._identity = identity
        self._surface = surface

    def items(self, method: str, link: UpstreamLink, items: list[object]) -> list[object]:
        """The items that this agent could reach, under the names of this connection."""
        kept: list[object] = []
        for item in items:
            if not isinstance(item, dict):
                continue
            name = item.get("name")
            if method == "tools/list":
                if not isinstance(name, str):
                    continue
                action = Action("tool", method, link.name, name)
            else:
                action = listed_action(method, link.name)
            context = Context(catalog=link.catalog)
            if not decide(self._identity.agent, action, self._snapshot, context).allows:
                continue
            if self._surface.aggregate and method in _CALLED_BY_NAME and isinstance(name, str):
                item = {**item, "name": self._surface.expose(link.name, name)}
            kept.append(item)
        return kept


def listed_action(method: str, upstream: str) -> Action:
    """The action that listing resources or prompts of an upstream is."""
    return Action("prompt" if method == "prompts/list" else "resource", method, upstream)


def list_one(method: str, link: UpstreamLink, chosen: Filter, then: Listed) -> None:
    """The complete listing of one upstream."""

    def read(outcome: Pages | Failure) -> None:
        if isinstance(outcome, Failure):
            then(outcome)
            return
        items = chosen.items(method, link, outcome.items)
        result = outcome.result(items)
        then(Listing(result, len(outcome.items), len(items), _digest(result)))

    link.list_all(method, read)


class Gathering:
    """The merged listing of several upstreams: complete, or what has come when time is up.

    `routes` is told of every resource by its upstream. An upstream without the method has nothing.
    """

    def __init__(
        self,
        method: str,
        links: list[UpstreamLink],
        chosen: Filter,
        then: Callable[[Listing], None],
        routed: Callable[[str, list[object]], None],
    ) -> None:
        self._method = method
        self._chosen = chosen
        self._then: Callable[[Listing], None] | None = then
        self._routed = routed
        self._order = [link.name for link in links]
        self._items: dict[str, list[object]] = {}
        self._offered = 0
        self._open = set(self._order)
        self._answered: set[str] = set()
        self._links = links
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, patience_s: float) -> None:
        """Ask every upstream at once, and wait for the slowest no longer than `patience_s`."""
        self._timer = asyncio.get_running_loop().call_later(patience_s, self.finish)
        for link in self._links:
            link.list_all(self._method, self._reader(link))
        if not self._links:
            self.finish()

    def finish(self) -> None:
        """Answer with what there is; later answers are ignored."""
        then, self._then = self._then, None
        if then is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        items = [item for name in self._order for item in self._items.get(name, ())]
        result = msgspec.json.encode({LIST_MEMBERS[self._method]: items})
        missing = tuple(name for name in self._order if name in self._open)
        then(Listing(result, self._offered, len(items), _digest(result), missing))

    def _reader(self, link: UpstreamLink) -> Callable[[Pages | Failure], None]:
        def read(outcome: Pages | Failure) -> None:
            if self._then is None:
                return
            if isinstance(outcome, Pages):
                self._offered += len(outcome.items)
                self._routed(link.name, outcome.items)
                self._items[link.name] = self._chosen.items(self._method, link, outcome.items)
                self._open.discard(link.name)
            elif outcome.status == "error":
                self._open.discard(link.name)
            self._answered.add(link.name)
            if len(self._answered) == len(self._order):
                self.finish()

        return read


def _digest(result: bytes) -> str:
    return hashlib.sha256(result).hexdigest()
