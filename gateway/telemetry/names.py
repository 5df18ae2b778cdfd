"""Names that may label what is counted: those of real things, never what a model made up."""

from collections.abc import Callable

from gateway.policy.snapshot import Snapshot
from gateway.telemetry.watch import Begun

OTHER = "other"

MAX_TOOLS = 2_000
"""How many tools are told apart; an upstream may offer others without end."""


class Names:
    """Which tools there are: those that an agent declares, and those that a catalog had."""

    def __init__(self, in_force: Callable[[], Snapshot]) -> None:
        self._in_force = in_force
        self._offered: set[str] = set()
        self._declared: frozenset[str] = frozenset()
        self._snapshot: Snapshot | None = None

    def tool(self, begun: Begun) -> str:
        """The id of the tool that is called, OTHER where it is none, "" for other actions."""
        if begun.action.kind != "tool":
            return ""
        snapshot = self._in_force()
        if snapshot is not self._snapshot:
            self._snapshot = snapshot
            declared = {name for agent in snapshot.agents.values() for name in agent.declared_ids}
            self._declared = frozenset(sorted(declared)[:MAX_TOOLS])
        decision = begun.decision
        name = decision.tool_id
        if name in self._declared or name in self._offered:
            return name
        # The digest of a definition says that it was in the catalog.
        if decision.definition and len(self._offered) < MAX_TOOLS:
            self._offered.add(name)
            return name
        return OTHER

    def method(self, begun: Begun) -> str:
        """The method, OTHER where it is none of the protocol's."""
        return OTHER if begun.action.kind == "unknown" else begun.action.method


def outcome(begun: Begun) -> str:
    """What was decided, in one word; "observed" is a refusal that was not enforced."""
    decision = begun.decision
    return decision.effect if decision.enforced else "observed"
