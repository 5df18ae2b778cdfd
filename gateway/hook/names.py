"""The client's names for tools: those of upstreams, and native ones that change files (pure)."""

from collections.abc import Iterable, Mapping
from typing import Final

from gateway.catalog.names import normalise
from gateway.policy.compile import meanings_of

PREFIX: Final = "mcp__"
"""What the client's names for tools of MCP servers begin with."""

WRITERS: Final[Mapping[str, str]] = {
    "Write": "file_path",
    "Edit": "file_path",
    "MultiEdit": "file_path",
    "NotebookEdit": "notebook_path",
}
"""The native tools that write a file, and the argument that names it."""

SHELLS: Final = frozenset(("Bash", "PowerShell"))


def readings_of(name: str, upstreams: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Every (upstream, normalised tool name) that the client's `name` for a tool could mean.

    `mcp__<upstream>__<tool>` on a connection to one upstream, and on one to all of them, which the
    client calls anything, `mcp__<anything>__<upstream>__<tool>`.
    """
    if not name.startswith(PREFIX):
        return ()
    known = tuple(upstreams)
    found = list(meanings_of(name, known))
    for upstream in known:
        middle = f"__{normalise(upstream)}__"
        at = name.find(middle, len(PREFIX) + 1)
        while at >= 0:
            found.append((upstream, name[at + len(middle) :]))
            at = name.find(middle, at + 1)
    return tuple(dict.fromkeys((upstream, tool) for upstream, tool in found if tool))
