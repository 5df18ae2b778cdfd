"""What one session's connection may do: its identity, decided on the snapshot in force."""

from collections.abc import Callable

import msgspec

from gateway.catalog.listing import UpstreamCatalog
from gateway.catalog.pins import Drift, drift
from gateway.identity.identity import Identity
from gateway.policy.callers import decide_for_any, permissions_of_any, permissions_on
from gateway.policy.decide import decide
from gateway.policy.snapshot import Snapshot, UpstreamPermissions
from gateway.policy.values import Action, Context, Decision

_OF_THE_CONNECTION = frozenset(("session", "list", "logging", "elicitation", "roots"))
"""Kinds of actions that are nobody's in particular where many agents share a connection."""
_PLAIN = Context()
_NOT_DEFAULT = (
    "default_agent in gateway.yaml has changed since this connection began; a person must connect "
    "the client again"
)


class InForce:
    """The snapshot that decisions are taken on. It is exchanged as a whole, never changed.

    `refused` says why the files as they are now are not in force, "" where they are. `catalogs` has
    what each upstream offered when it was last asked.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.refused = ""
        self.catalogs: dict[str, UpstreamCatalog] = {}
        self._listeners: set[Callable[[], None]] = set()

    def exchange(self, snapshot: Snapshot) -> None:
        """Decide on `snapshot` from now on, and let every session know."""
        self.snapshot = snapshot
        self.refused = ""
        for listener in tuple(self._listeners):
            listener()

    def heard(self, catalog: UpstreamCatalog, instructions: object) -> tuple[Drift, ...]:
        """An upstream was asked what it offers; what of that is otherwise than it is pinned?"""
        self.catalogs[catalog.upstream] = catalog
        pins = self.snapshot.pins
        return () if pins is None else drift(pins, catalog, instructions)

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Have `listener` called after each exchange."""
        self._listeners.add(listener)

    def unsubscribe(self, listener: Callable[[], None]) -> None:
        """Undo `subscribe`."""
        self._listeners.discard(listener)


class Authority:
    """Decides for one connection, or for one caller on it."""

    def __init__(self, in_force: InForce, identity: Identity) -> None:
        self.identity = identity
        self._in_force = in_force

    @property
    def shared(self) -> bool:
        """Whether agents are told apart call by call."""
        return self.identity.means == "hook"

    @property
    def snapshot(self) -> Snapshot:
        """What is decided on at the moment."""
        return self._in_force.snapshot

    def decide(
        self, action: Action, context: Context = _PLAIN, caller: Identity | None = None
    ) -> Decision:
        """Decide an action of `caller`, or of the connection where that is None.

        On a shared connection a listing shows what any of its agents could reach, and what belongs
        to the connection as a whole is allowed if it is to any of them.
        """
        who = self.identity if caller is None else caller
        snapshot = self._in_force.snapshot
        if who.agent is None and who.means == "hook" and who.host is None:
            known = action.kind not in ("task", "unknown")
            listed = known and action.method.endswith("/list")
            if listed or action.kind in _OF_THE_CONNECTION:
                return decide_for_any(action, snapshot, context)
        agent = _still(who, snapshot)
        if agent != who.agent:
            context = msgspec.structs.replace(context, nobody=_NOT_DEFAULT)
        return decide(agent, action, snapshot, context)

    def permissions(self, upstream: str) -> UpstreamPermissions:
        """The most that this connection may do on an upstream."""
        if self.shared:
            return permissions_of_any(upstream, self._in_force.snapshot)
        snapshot = self._in_force.snapshot
        return permissions_on(_still(self.identity, snapshot), upstream, snapshot)


def _still(who: Identity, snapshot: Snapshot) -> str | None:
    """The agent that `who` is now: a default is one for as long as the configuration says so."""
    return None if who.means == "default" and who.agent != snapshot.default_agent else who.agent
