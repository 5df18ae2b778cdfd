"""Which declared tools nobody calls: agent files beside the audit log."""

from collections.abc import Iterable, Iterator

import msgspec

from gateway.audit.calls import Filters
from gateway.audit.log import AuditLog
from gateway.catalog.names import normalise, tool_id
from gateway.policy.snapshot import AgentPermissions, Grant


class Unused(msgspec.Struct, frozen=True, kw_only=True):
    """A declared entry without a call since some time."""

    agent: str
    upstream: str
    entry: str  # as it is written
    tool: str | None  # None: the entry is for a whole upstream
    file: str
    line: int
    last: str | None  # when it was last called before that, if the log knows


def unused_entries(
    agents: Iterable[AgentPermissions], log: AuditLog, since: str
) -> Iterator[Unused]:
    """Declared entries that the log has no call for since then, allowed or not."""
    for agent in agents:
        callers = log.callers(Filters(agent=agent.name))
        last = {each.tool or "": each.last for each in callers}
        for name, here in agent.upstreams.items():
            prefix = tool_id(name, "")
            for tool, grant in here.declared.tools.items():
                known = last.get(prefix + normalise(tool))
                if known is None or known < since:
                    yield _unused(agent.name, name, grant, prefix + tool, known)
            whole = here.declared.whole
            if whole is None or whole.text.endswith("(inherited)"):
                continue
            known = max((last[tool] for tool in last if tool.startswith(prefix)), default=None)
            if known is None or known < since:
                yield _unused(agent.name, name, whole, None, known)


def _unused(agent: str, upstream: str, grant: Grant, tool: str | None, last: str | None) -> Unused:
    return Unused(
        agent=agent,
        upstream=upstream,
        entry=grant.text,
        tool=tool,
        file=grant.file,
        line=grant.line,
        last=last,
    )
