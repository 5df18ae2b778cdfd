"""What `gateway check` says of lists that are wider than need be, or only look as if they gave."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta

from gateway.audit.log import AuditLog
from gateway.cli.notes import Note
from gateway.cli.unused import unused_entries
from gateway.config.load import Loaded
from gateway.policy.snapshot import AgentPermissions, Selection
from gateway.relay.survey import Surveyed


def of_inheriting(loaded: Loaded, agents: Iterable[AgentPermissions]) -> Iterator[Note]:
    """Agents without a list of their own, whose ceiling takes nothing away."""
    inheriting = {each.name for each in loaded.definitions if each.inherits}
    for agent in agents:
        ceiling = agent.ceiling
        if agent.name in inheriting and ceiling is not None and _everything(agent):
            yield Note(
                severity="warning",
                code="inherits-everything",
                message=f"The agent {agent.name!r} lists no tools, and its max_tools leave it "
                "every tool of every upstream; list what it needs (`gateway audit suggest "
                f"{agent.name}`), or narrow max_tools.",
                path=ceiling.file,
                line=ceiling.line,
                agent=agent.name,
            )


def of_wildcards(
    agents: Iterable[AgentPermissions], surveyed: Mapping[str, Surveyed]
) -> Iterator[Note]:
    """Entries for a whole upstream that offers no tool."""
    for agent in agents:
        for name, here in agent.upstreams.items():
            answer = surveyed.get(name)
            if answer is None or answer.catalog is None or answer.catalog.tools:
                continue
            for selection in (here.declared, here.ceiling, here.disallowed):
                grant = selection.whole if selection is not None else None
                # An inherited list is no entry: nobody wrote it.
                if grant is not None and not grant.text.endswith("(inherited)"):
                    yield Note(
                        # It may have resources, and whoever is declared whole brings them.
                        severity="info",
                        code="wildcard-without-tool",
                        message=f"{grant.text!r} matches no tool: the upstream {name!r} offers "
                        "none now; remove it, unless its resources or prompts are meant.",
                        path=grant.file,
                        line=grant.line,
                        agent=agent.name,
                        upstream=name,
                    )


def of_unused(
    agents: Iterable[AgentPermissions], log: AuditLog | None, *, days: int, now: datetime
) -> Iterator[Note]:
    """Declared entries that the audit log of `days` days has no call for, allowed or not.

    Says that it cannot tell where the log begins later, or there is none. Raises UserError where
    the log cannot be asked.
    """
    since = (now.astimezone(UTC) - timedelta(days=days)).isoformat(timespec="microseconds")
    since = since[:-6] + "Z"
    oldest = None if log is None else log.freshness().oldest
    if log is None or oldest is None or oldest > since:
        begins = "there is none" if oldest is None else f"it begins at {oldest}"
        yield Note(
            severity="info",
            code="log-too-young",
            message=f"What was not used in {days} days cannot be told: the audit log does not "
            f"reach back so far, {begins}.",
            path="",
            line=0,
        )
        return
    for each in unused_entries(agents, log, since):
        if each.tool is not None:
            said = f"{each.tool} was not called by the agent {each.agent!r}"
        else:
            said = f"No tool of {each.entry!r} was called by the agent {each.agent!r}"
        yield Note(
            severity="warning",
            code="unused-entry",
            message=f"{said} in {days} days; remove the entry, if it is not needed.",
            path=each.file,
            line=each.line,
            agent=each.agent,
            upstream=each.upstream,
            tool=each.tool,
        )


def _everything(agent: AgentPermissions) -> bool:
    return bool(agent.upstreams) and all(
        here.ceiling is not None
        and here.ceiling.whole is not None
        and not _selects(here.disallowed)
        for here in agent.upstreams.values()
    )


def _selects(selection: Selection) -> bool:
    return selection.whole is not None or bool(selection.tools)
