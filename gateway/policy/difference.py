"""What a change of configuration changes: cells of the matrix, and recorded calls (pure)."""

from collections.abc import Iterable, Iterator
from typing import Literal, TypeAlias

import msgspec

from gateway.policy.matrix import Cell, cells_of, rows_of
from gateway.policy.rules import Rule
from gateway.policy.snapshot import AgentPermissions, Snapshot
from gateway.policy.trial import Trial, decide_trial, depends_on_arguments

Verdict: TypeAlias = Literal["allow", "ask", "deny", "unknown"]
"""What is decided on a recorded call; "unknown" where that depends on arguments not recorded."""


class CellChange(msgspec.Struct, frozen=True, kw_only=True):
    """One agent and one tool of which the new configuration says something else.

    A side is None where the agent is not defined. `gained` and `lost` are the names of the rules
    about it that only one of the sides has in these words.
    """

    agent: str
    tool: str
    old: Cell | None
    new: Cell | None
    gained: tuple[str, ...]
    lost: tuple[str, ...]


class CallChange(msgspec.Struct, frozen=True, kw_only=True):
    """Recorded calls that would end differently; `rule` is what decides them now."""

    agent: str
    tool: str
    old: Verdict
    new: Verdict
    rule: str
    file: str
    line: int
    calls: int


def changed_cells(old: Snapshot, new: Snapshot) -> Iterator[CellChange]:
    """The cells that differ, by tool and agent. No upstream is asked."""
    everybody: list[AgentPermissions] = [*old.agents.values(), *new.agents.values()]
    rows = rows_of(everybody, (*old.rules.rules, *new.rules.rules), {})
    before, after = (
        {(cell.tool, cell.agent): cell for cell in cells_of(side.agents.values(), rows, side, {})}
        for side in (old, new)
    )
    for key in sorted({*before, *after}):
        tool, agent = key
        gained, lost = _rules_between(old, new, agent, tool)
        one, other = before.get(key), after.get(key)
        if _meaning(one) != _meaning(other) or ((gained or lost) and _matters(one, other)):
            yield CellChange(agent=agent, tool=tool, old=one, new=other, gained=gained, lost=lost)


def changed_calls(old: Snapshot, new: Snapshot, trials: Iterable[Trial]) -> list[CallChange]:
    """The recorded calls that would be decided differently, alike ones counted together."""
    counts: dict[CallChange, int] = {}
    for trial in trials:
        before, *_ = _verdict(old, trial)
        after, rule, file, line = _verdict(new, trial)
        if before != after:
            change = CallChange(
                agent=trial.agent,
                tool=trial.tool,
                old=before,
                new=after,
                rule=rule,
                file=file,
                line=line,
                calls=0,
            )
            counts[change] = counts.get(change, 0) + 1
    found = [msgspec.structs.replace(change, calls=count) for change, count in counts.items()]
    return sorted(found, key=lambda each: (each.agent, each.tool, each.old, each.new, each.rule))


def _verdict(snapshot: Snapshot, trial: Trial) -> tuple[Verdict, str, str, int]:
    decision = decide_trial(trial, snapshot)
    depends = trial.arguments is None and depends_on_arguments(trial.agent, trial.tool, snapshot)
    # What the lists refuse, no rule lets through.
    by_rule = decision.rule in {rule.name for rule in snapshot.rules.rules}
    if depends and (by_rule or decision.effect == "allow"):
        return "unknown", "", "", 0
    return decision.effect, decision.rule, decision.file, decision.line


def _meaning(cell: Cell | None) -> tuple[object, ...]:
    if cell is None or cell.state == "undeclared":
        return ("undeclared",)
    if cell.state in ("reachable", "asked"):
        return (cell.state, cell.enforced)
    return (cell.state, cell.enforced, cell.rule)


def _matters(old: Cell | None, new: Cell | None) -> bool:
    """Whether rules have anything left to say on either side."""
    return any(cell is not None and cell.state in ("reachable", "asked") for cell in (old, new))


def _rules_between(
    old: Snapshot, new: Snapshot, agent: str, tool: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    before, after = (side.rules.applying(agent, tool) for side in (old, new))
    return _missing(after, before), _missing(before, after)


def _missing(rules: Iterable[Rule], others: Iterable[Rule]) -> tuple[str, ...]:
    meanings = {rule.meaning for rule in others}
    return tuple(rule.name for rule in rules if rule.meaning not in meanings)
