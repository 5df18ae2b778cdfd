"""The dialect of Gemini CLI: a list of `mcp_server_tool`, and a refusal of every unknown key."""

import re

from gateway.agents.definition import ToolPattern
from gateway.agents.entries import Declared, Text, report_natives, texts_of
from gateway.agents.frontmatter import FENCE_LINE, Header
from gateway.agents.log import FindingLog, shown
from gateway.documents import Document

POLICY_KEYS = ("tools",)

_KEYS = frozenset(
    [
        "description",
        "display_name",
        "kind",
        "max_turns",
        "mcp_servers",
        "model",
        "name",
        "temperature",
        "timeout_mins",
        "tools",
    ]
)
_NATIVE = re.compile(r"[a-z][a-z0-9_]*")
# A server ends at the first "_": the client cannot name one that has it.
_ENTRY = re.compile(r"mcp_([A-Za-z0-9.:-]+)_(\*|[A-Za-z0-9_.:-]+)")
# The client shortens longer names in the middle, so none of its tools can match a longer entry.
_MAX_NAME = 63


def declare(document: Document, header: Header, log: FindingLog) -> Declared:
    """Read the tool list of a header."""
    assert isinstance(document.value, dict)
    for key in document.value:
        if key not in _KEYS:
            log.error(
                "unknown-key",
                document.line(key),
                f"Gemini CLI refuses an agent with the key {shown(key)}; remove it.",
            )
    if "tools" not in document.value:
        log.info("inherits", FENCE_LINE, _INHERITS.format("An omitted `tools`"))
        return Declared(inherits=True)
    line = document.line("tools")
    if not isinstance(document.value["tools"], list):
        log.error("wrong-type", line, "`tools` must be a list, else Gemini CLI refuses the agent.")
        return Declared(inherits=False)
    texts = texts_of(document, "tools", log)
    if any(text.text in ("*", "mcp_*") for text in texts):
        log.info("inherits", line, _INHERITS.format("This wildcard"))
        return Declared(inherits=True)
    tools = tuple(_understand(text, log) for text in texts)
    report_natives(tools, line, log)
    return Declared(inherits=False, tools=tools)


_INHERITS = (
    "{} makes the client give every tool; list the tools, or set a ceiling in the gateway's "
    "configuration."
)


def _understand(entry: Text, log: FindingLog) -> ToolPattern:
    text, line = entry.text, entry.line
    found = _ENTRY.fullmatch(text)
    if found is not None and len(text) <= _MAX_NAME:
        server, tool = found.groups()
        if tool == "*":
            return ToolPattern(text, line, "server", server=server)
        if tool.strip("_"):
            return ToolPattern(text, line, "tool", server=server, tool=tool)
    if _NATIVE.fullmatch(text) and not text.startswith("mcp_"):
        return ToolPattern(text, line, "native")
    if found is not None and len(text) > _MAX_NAME:
        code, problem = "name-too-long", f"the client cuts names at {_MAX_NAME} characters"
    elif text.startswith("mcp__"):
        code, problem = "wrong-dialect", "another client writes it so; here it is `mcp_server_tool`"
    else:
        code, problem = "illegal-name", "write `mcp_server_tool` or `mcp_server_*`"
    log.warning(code, line, f"{shown(text)} in `tools` grants nothing: {problem}.")
    return ToolPattern(text, line, "unmatched")
