"""What `gateway check` says of lists that are wider than need be, or only look as if they gave."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gateway.audit.calls import Filters
from gateway.audit.index import Index
from gateway.audit.reader import read_journals
from gateway.catalog.names import normalise, tool_id
from gateway.cli.notes import Note
from gateway.config.load import Loaded
from gateway.policy.snapshot import AgentPermissions, Grant, Selection
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
                    yield _note(
                        "wildcard-without-tool",
                        f"{grant.text!r} matches no tool: the upstream {name!r} offers none now; "
                        "remove it, unless its resources or prompts are meant.",
                        agent,
                        name,
                        grant,
                    )


def of_unused(
    agents: Iterable[AgentPermissions], directory: Path, *, days: int, now: datetime
) -> Iterator[Note]:
    """Declared entries that the audit log of `days` days has no call for, allowed or not.

    Says that it cannot tell where the log begins later. Raises UserError where the index cannot be
    used.
    """
    since = (now.astimezone(UTC) - timedelta(days=days)).isoformat(timespec="microseconds")
    since = since[:-6] + "Z"
    first = next(read_journals(directory, lambda _: None), None) if directory.is_dir() else None
    if first is None or first.row.time > since:
        begins = "there is none" if first is None else f"it begins at {first.row.time}"
        yield Note(
            severity="info",
            code="log-too-young",
            message=f"What was not used in {days} days cannot be told: the audit log does not "
            f"reach back so far, {begins}.",
            path="",
            line=0,
        )
        return
    with Index.open(directory) as index:
        index.refresh()
        for agent in agents:
            calls = index.calls(Filters(agent=agent.name, since=since))
            yield from _unused(agent, {call.decision.tool or "" for call in calls}, days)


def _unused(agent: AgentPermissions, called: set[str], days: int) -> Iterator[Note]:
    for name, here in agent.upstreams.items():
        prefix = tool_id(name, "")
        for tool, grant in here.declared.tools.items():
            if prefix + normalise(tool) not in called:
                yield _note(
                    "unused-entry",
                    f"{prefix}{tool} was not called by the agent {agent.name!r} in {days} days; "
                    "remove the entry, if it is not needed.",
                    agent,
                    name,
                    grant,
                    tool=prefix + tool,
                )
        whole = here.declared.whole
        if whole is None or whole.text.endswith("(inherited)"):
            continue
        if not any(each.startswith(prefix) for each in called):
            yield _note(
                "unused-entry",
                f"No tool of {whole.text!r} was called by the agent {agent.name!r} in {days} "
                "days; remove the entry, if it is not needed.",
                agent,
                name,
                whole,
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


def _note(
    code: str,
    message: str,
    agent: AgentPermissions,
    upstream: str,
    grant: Grant,
    *,
    tool: str | None = None,
) -> Note:
    return Note(
        # A server without tools may have resources, and whoever is declared whole brings them.
        severity="info" if code == "wildcard-without-tool" else "warning",
        code=code,
        message=message,
        path=grant.file,
        line=grant.line,
        agent=agent.name,
        upstream=upstream,
        tool=tool,
    )
