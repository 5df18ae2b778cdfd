"""What every agent may do with every tool: one decision for each cell, by `decide` itself."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, TypeAlias

import msgspec

from gateway.catalog.listing import UpstreamCatalog
from gateway.catalog.names import normalise, tool_id
from gateway.policy.decide import decide
from gateway.policy.rules import Rule, When
from gateway.policy.snapshot import AgentPermissions, Snapshot, UpstreamPermissions
from gateway.policy.values import Action, Context, Decision

State: TypeAlias = Literal["reachable", "asked", "denied", "drifted", "undeclared"]
"""What a cell comes to.

"asked": a person must say yes first. "denied": declared, but something else says no. "drifted":
declared, but the upstream does not offer it as a usable tool. "undeclared": not in its list.
"""

ANY = "*"
"""What a tool's name in a row ends in that stands for all tools which begin so and have no row."""


class Row(msgspec.Struct, frozen=True, order=True):
    """One tool of one upstream, by its normalised name, or several by the beginning and ANY."""

    upstream: str
    tool: str

    @property
    def tool_id(self) -> str:
        """As in agent files: `mcp__UPSTREAM__TOOL`, or `mcp__UPSTREAM__*`."""
        return tool_id(self.upstream, "") + self.tool

    @property
    def several(self) -> bool:
        """Whether it stands for more than one tool."""
        return ANY in self.tool


class Condition(msgspec.Struct, frozen=True):
    """A rule that may refuse a call of a reachable tool: by arguments, time, caller or limits."""

    rule: str
    file: str
    line: int


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One agent and one tool.

    `certain` is False where the upstream was not asked whether it offers the tool. `enforced` is
    False where the decision is only recorded.
    """

    agent: str
    upstream: str
    tool: str
    """The tool id."""
    state: State
    declared: bool
    certain: bool
    enforced: bool
    rule: str
    file: str
    line: int
    reason: str
    conditions: tuple[Condition, ...]


def rows_of(
    agents: Iterable[AgentPermissions],
    rules: Iterable[Rule],
    catalogs: Mapping[str, UpstreamCatalog],
) -> tuple[Row, ...]:
    """The tools worth a row: named in any of the agents' lists, or offered; sorted.

    Where a list names an upstream whole that has no catalog, there is a row for what rules name of
    it, and one for the rest.
    """
    whole = set()
    rules = tuple(rules)
    rows = {
        Row(name, normalise(tool))
        for name, catalog in catalogs.items()
        for tool in (*catalog.tools, *catalog.withheld)
    }
    for agent in agents:
        for name, here in agent.upstreams.items():
            rows.update(Row(name, tool) for tool in (*here.declared.tools, *here.disallowed.tools))
            if here.declared.whole is not None and name not in catalogs:
                whole.add(name)
    for name in whole:
        prefix = tool_id(name, "")
        named = (tool for rule in rules for tool in rule.tools if tool.startswith(prefix))
        rows.update(Row(name, tool[len(prefix) :] or ANY) for tool in named)
        rows.add(Row(name, ANY))
    return tuple(sorted(rows))


def cells_of(
    agents: Iterable[AgentPermissions],
    rows: Iterable[Row],
    snapshot: Snapshot,
    catalogs: Mapping[str, UpstreamCatalog],
) -> Iterator[Cell]:
    """The cells, row by row."""
    agents = tuple(agents)
    raw_names = {name: _raw_names(catalog) for name, catalog in catalogs.items()}
    for row in rows:
        catalog = catalogs.get(row.upstream)
        name = raw_names[row.upstream].get(row.tool, row.tool) if catalog is not None else row.tool
        action = Action("tool", "tools/list", row.upstream, name)
        for agent in agents:
            decision = decide(agent.name, action, snapshot, Context(catalog))
            yield _cell(agent, row, decision, snapshot)


def _cell(agent: AgentPermissions, row: Row, decision: Decision, snapshot: Snapshot) -> Cell:
    here = agent.upstreams.get(row.upstream, UpstreamPermissions())
    declared = here.declared.find(row.tool) is not None
    conditions: tuple[Condition, ...] = ()
    if decision.effect != "deny":
        conditions = tuple(
            Condition(rule.name, rule.file, rule.line)
            for rule in snapshot.rules.applying(agent.name, decision.tool_id)
            if not rule.observe
            and (rule.arguments is not None or _varies(rule.when) or rule.limits is not None)
        )
    return Cell(
        agent=agent.name,
        upstream=row.upstream,
        tool=row.tool_id,
        state=_state(decision, declared=declared),
        declared=declared,
        certain=not decision.provisional,
        enforced=decision.enforced,
        rule=decision.rule,
        file=decision.file,
        line=decision.line,
        reason=decision.reason.replace(decision.tool_id, row.tool_id),
        conditions=conditions,
    )


def _varies(when: When | None) -> bool:
    return when is not None and when.varies


def _state(decision: Decision, *, declared: bool) -> State:
    if decision.effect == "allow":
        return "reachable"
    if decision.effect == "ask":
        return "asked"
    if declared:
        return "drifted" if decision.rule in _DRIFT else "denied"
    # Of an agent that is refused as a whole nothing is in the tables: the reason says more.
    return "denied" if decision.rule == "agent file" else "undeclared"


_DRIFT = frozenset(("not offered", "withheld"))


def _raw_names(catalog: UpstreamCatalog) -> dict[str, str]:
    """The upstream's own names by their spelling; one that is offered before one that is not."""
    return {normalise(name): name for name in (*catalog.withheld, *catalog.tools)}
