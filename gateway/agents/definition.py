"""What an agent definition says: the values that reading one gives."""

from typing import Literal, TypeAlias

import msgspec

Dialect: TypeAlias = Literal["claude", "copilot", "gemini", "opencode"]
Severity: TypeAlias = Literal["error", "warning", "info"]
Form: TypeAlias = Literal["tool", "server", "every_server", "native", "unmatched"]


class Finding(msgspec.Struct, frozen=True):
    """Something about a file that its author should know, and where."""

    code: str
    """Stable kebab-case word, such as "compat-no-tools"."""
    severity: Severity
    message: str
    """One sentence with the remedy."""
    path: str
    line: int


class ToolPattern(msgspec.Struct, frozen=True):
    """One entry of a tool list, understood as far as that goes without the list of upstreams."""

    text: str
    """As written in the file."""
    line: int
    form: Form
    """"native": a tool of the client itself; "unmatched": grants and restricts nothing."""
    tool_id: str = ""
    """Claude dialect, form "tool": the whole `mcp__srv__echo`, never split."""
    server: str = ""
    """Form "server": the server's name, in the Claude dialect as the client normalises it. Form
    "tool" outside the Claude dialect: the server's part of the entry."""
    tool: str = ""
    """Form "tool" outside the Claude dialect: the tool's part of the entry."""


class AgentDefinition(msgspec.Struct, frozen=True):
    """An agent and what its file declares. One that is denied gets no MCP tool at all."""

    name: str
    """"" when the file has none that can be read."""
    path: str
    dialect: Dialect
    status: Literal["ok", "denied"]
    """"denied": there is a finding of severity error; `tools` is then only for showing."""
    inherits: bool
    """`tools` is omitted or `*`: the client would give everything, the gateway needs a ceiling."""
    tools: tuple[ToolPattern, ...]
    """Declared entries in file order; () when `inherits`."""
    disallowed: tuple[ToolPattern, ...]
    findings: tuple[Finding, ...]
    tools_line: int
    """Line of the `tools` key, else of the opening fence."""
    digest: str
    """SHA-256 of the file's bytes, hex."""
