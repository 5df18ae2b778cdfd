"""From the text of an agent file to what may be called: what the tests of decisions share."""

from collections.abc import Iterable, Mapping, Sequence

from gateway.agents import AgentDefinition, ToolPattern, read_definition
from gateway.catalog.listing import UpstreamCatalog, build_catalog
from gateway.policy.compile import Rules, compile_snapshot
from gateway.policy.decide import decide
from gateway.policy.snapshot import Grants, OperatorEntry, Snapshot, UpstreamTraits
from gateway.policy.values import Action, Context, Decision

Servers = Mapping[str, Sequence[str]]

# The servers of the contract (agent formats, section 4).
SERVERS: Servers = {
    "srv": ("echo", "get_a", "a__b", "weird.name"),
    "srv-two": ("echo",),
    "my.dot srv": ("echo",),
    "a__c": ("echo",),
}
EVERYTHING = {f"{server}:{tool}" for server, tools in SERVERS.items() for tool in tools}


def file_of(header: str, *, description: str = "d") -> bytes:
    """The bytes of an agent file with `header` in its frontmatter."""
    return f"---\nname: a\ndescription: {description}\n{header}\n---\nYou are a.\n".encode()


def defined(data: bytes, *, path: str = ".claude/agents/a.md") -> AgentDefinition:
    definition = read_definition(data, path=path)
    assert definition is not None
    return definition


def agent(tools: Iterable[str], disallowed: Iterable[str] = ()) -> AgentDefinition:
    """A Claude Code agent `a` with one list entry a line: the first one stands on line 5."""
    header = "tools: []" if not (listed := _listed(tools)) else f"tools:\n{listed}"
    if refused := _listed(disallowed):
        header += f"\ndisallowedTools:\n{refused}"
    return defined(file_of(header))


def _listed(entries: Iterable[str]) -> str:
    return "\n".join(f"- '{entry}'" for entry in entries)


def operator(
    *max_tools: str, grants: Grants | None = None, ceiling: bool = True
) -> dict[str, OperatorEntry]:
    """The operator's entry for the agent `a`, on line 9 of gateway.yaml."""
    patterns = tuple(_pattern(text) for text in max_tools) if ceiling else None
    return {"a": OperatorEntry(patterns, grants or Grants(), "gateway.yaml", 9)}


def _pattern(text: str) -> ToolPattern:
    if text == "mcp__*":
        return ToolPattern(text, 10, "every_server")
    server, _, tool = text.removeprefix("mcp__").partition("__")
    if not tool:
        return ToolPattern(text, 10, "server", server=server)
    return ToolPattern(text, 10, "tool", tool_id=text)


def compiled(
    definition: AgentDefinition,
    servers: Iterable[str] = SERVERS,
    operators: Mapping[str, OperatorEntry] | None = None,
    *,
    passthrough: Iterable[str] = (),
) -> Snapshot:
    traits = {name: UpstreamTraits(name in set(passthrough)) for name in servers}
    return compile_snapshot(Rules([definition], operators or {}), traits, "digest")


def catalog(server: str, tools: Iterable[str]) -> UpstreamCatalog:
    return build_catalog(server, [{"name": tool, "inputSchema": {}} for tool in tools])


def call(
    snapshot: Snapshot,
    server: str,
    tool: str,
    offered: Iterable[str] | None = None,
    *,
    method: str = "tools/call",
) -> Decision:
    """The decision on a tool of the agent `a`; without `offered` the catalog is not known."""
    context = Context() if offered is None else Context(catalog(server, offered))
    return decide("a", Action("tool", method, server, tool), snapshot, context)


def reach(snapshot: Snapshot, servers: Servers = SERVERS) -> set[str]:
    """Every `server:tool` that the agent `a` may call."""
    return {
        f"{server}:{tool}"
        for server, tools in servers.items()
        for tool in tools
        if call(snapshot, server, tool, tools).allows
    }
