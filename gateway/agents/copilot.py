"""The dialect of GitHub Copilot and VS Code: `tools: ['server/tool', 'server/*', 'read']`."""

import re

from gateway.agents.definition import ToolPattern
from gateway.agents.entries import Declared, Text, report_natives, texts_of
from gateway.agents.frontmatter import FENCE_LINE, Header
from gateway.agents.header import check_keys
from gateway.agents.log import FindingLog, shown
from gateway.documents import Document

POLICY_KEYS = ("tools",)

# Tool sets of the client; `edit/editFiles` is a tool of its own, not of a server named edit.
_NATIVE_SETS = frozenset(
    [
        "agent",
        "browser",
        "edit",
        "execute",
        "new",
        "read",
        "runCommands",
        "runNotebooks",
        "runTasks",
        "search",
        "todo",
        "vscode",
        "web",
    ]
)
_NATIVE = re.compile(r"[A-Za-z][A-Za-z0-9_-]*(?:\(.*\))?")
_SERVER = re.compile(r"[A-Za-z0-9_. -]+(?:/[A-Za-z0-9_. -]+)*")


def declare(document: Document, header: Header, log: FindingLog) -> Declared:
    """Read the tool list of a header."""
    check_keys(document, (*POLICY_KEYS, "mcp-servers"), log)
    assert isinstance(document.value, dict)
    if "tools" not in document.value:
        log.info("inherits", FENCE_LINE, _INHERITS.format("An omitted `tools`"))
        return Declared(inherits=True)
    line = document.line("tools")
    texts = texts_of(document, "tools", log)
    if isinstance(document.value["tools"], str):
        log.warning(
            "string-tools",
            line,
            "VS Code ignores `tools` when it is a text, and gives its default tools; write a list.",
        )
        texts = [Text(part.strip(), text.line) for text in texts for part in text.text.split(",")]
    if [text.text for text in texts] == ["*"]:
        log.info("inherits", line, _INHERITS.format("`*`"))
        return Declared(inherits=True)
    tools = tuple(_understand(text, log) for text in texts if text.text)
    report_natives(tools, line, log)
    return Declared(inherits=False, tools=tools)


_INHERITS = (
    "{} makes the client give every tool; list the tools, or set a ceiling in the gateway's "
    "configuration."
)


def _understand(entry: Text, log: FindingLog) -> ToolPattern:
    text, line = entry.text, entry.line
    server, slash, tool = text.rpartition("/")
    if not slash and _NATIVE.fullmatch(text) and not text.lower().startswith("mcp_"):
        return ToolPattern(text, line, "native")
    if slash and server in _NATIVE_SETS:
        return ToolPattern(text, line, "native")
    if slash and tool and _SERVER.fullmatch(server):
        if tool == "*":
            return ToolPattern(text, line, "server", server=server)
        if "*" not in tool and "/" not in server:
            return ToolPattern(text, line, "tool", server=server, tool=tool)
    if text.lower().startswith("mcp_"):
        code, problem = "wrong-dialect", "another client writes it so; here it is `server/tool`"
    elif "*" in text:
        code, problem = "unsupported-glob", "write `server/*`, or `*` alone"
    else:
        code, problem = "illegal-name", "write `server/tool` or `server/*`"
    log.warning(code, line, f"{shown(text)} in `tools` grants nothing: {problem}.")
    return ToolPattern(text, line, "unmatched")
