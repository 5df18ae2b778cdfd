"""The dialect of Claude Code: `tools` and `disallowedTools` (measured on 2.1.330)."""

import re

from gateway.agents.definition import ToolPattern
from gateway.agents.entries import Declared, Text, report_natives, texts_of
from gateway.agents.frontmatter import FENCE_LINE, Header
from gateway.agents.header import check_keys
from gateway.agents.log import FindingLog, shown
from gateway.documents import Document

POLICY_KEYS = ("tools", "disallowedTools")

_WHOLE_SERVER = re.compile(r"mcp__([A-Za-z0-9_-]+)__\*")
_NAME = re.compile(r"mcp__([A-Za-z0-9_-]+)")
# The client's own tools are written like Read or Bash(git:*); nothing else can be one.
_NATIVE = re.compile(r"[A-Z][A-Za-z0-9]*(?:\(.*\))?")
_LATE_KEY = re.compile(r"(tools|disallowedTools)[ \t]*:")


def declare(document: Document, header: Header, log: FindingLog) -> Declared:
    """Read the tool lists of a header."""
    check_keys(document, (*POLICY_KEYS, "mcpServers"), log)
    assert isinstance(document.value, dict)
    _report_inline_servers(document, log)
    _report_late_keys(header, log)
    disallowed: tuple[ToolPattern, ...] = ()
    if "disallowedTools" in document.value:
        disallowed = tuple(
            _understand(entry, log, deny=True)
            for text in texts_of(document, "disallowedTools", log)
            for entry in split(text, log)
        )
    if "tools" not in document.value:
        log.info(
            "inherits",
            FENCE_LINE,
            "`tools` is omitted, so the client gives every tool; list the tools, or set a ceiling "
            "in the gateway's configuration.",
        )
        return Declared(inherits=True, disallowed=disallowed)
    entries = [entry for text in texts_of(document, "tools", log) for entry in split(text, log)]
    tools = tuple(_understand(entry, log) for entry in entries if entry.text != "*")
    line = document.line("tools")
    if len(tools) < len(entries):
        log.info(
            "inherits",
            line,
            "`*` makes the client give every tool; list the tools, or set a ceiling in the "
            "gateway's configuration.",
        )
        return Declared(inherits=True, disallowed=disallowed)
    report_natives(tools, line, log)
    return Declared(inherits=False, tools=tools, disallowed=disallowed)


def split(text: Text, log: FindingLog) -> list[Text]:
    """Split at commas, spaces and tabs outside parentheses; [] with an error if those do not pair.

    A line break inside a text separates nothing, as in the client.
    """
    entries = []
    entry = ""
    depth = 0
    for character in text.text.rstrip("\n"):
        depth += (character == "(") - (character == ")")
        if depth < 0:
            break
        if depth == 0 and character in ", \t":
            entries.append(entry)
            entry = ""
        else:
            entry += character
    if depth != 0:
        log.error(
            "unpaired-parenthesis",
            text.line,
            f"The parentheses in {shown(text.text)} do not pair, so it is unclear where an entry "
            "ends; correct them.",
        )
        return []
    entries.append(entry)
    return [Text(entry, text.line) for entry in entries if entry]


def _understand(entry: Text, log: FindingLog, *, deny: bool = False) -> ToolPattern:
    text, line = entry.text, entry.line
    whole = _WHOLE_SERVER.fullmatch(text)
    if whole is not None:
        return ToolPattern(text, line, "server", server=whole[1])
    name = _NAME.fullmatch(text)
    if name is not None:
        server, separator, tool = name[1].partition("__")
        if not separator:
            return ToolPattern(text, line, "server", server=server)
        if server and tool:
            return ToolPattern(text, line, "tool", tool_id=text)
    if _NATIVE.fullmatch(text):
        return ToolPattern(text, line, "native")
    if deny and text == "mcp__*":
        return ToolPattern(text, line, "every_server")
    code, problem = _why_unmatched(text)
    if deny:
        log.error(
            code,
            line,
            f"{shown(text)} in `disallowedTools` restricts nothing: {problem}.",
        )
    else:
        log.warning(code, line, f"{shown(text)} in `tools` grants nothing: {problem}.")
    return ToolPattern(text, line, "unmatched")


def _why_unmatched(text: str) -> tuple[str, str]:
    if "\n" in text:
        return "glued-entries", "a line break does not separate entries; use commas or a list"
    if text[0] in "[{\"'":
        return "json-in-string", "it is JSON inside a text; remove the quotes around the list"
    if text.startswith("mcp__"):
        if "(" in text:
            return "parenthesis-suffix", "an MCP entry takes no parentheses; remove them"
        if "*" in text:
            return (
                "unsupported-glob",
                "the client knows `mcp__SERVER__TOOL`, `mcp__SERVER` and `mcp__SERVER__*` only",
            )
        if re.search("[;|]", text):
            return "glued-entries", "separate entries by commas"
        if _NAME.fullmatch(text):
            return "illegal-name", "the server's or the tool's name is missing"
        return (
            "illegal-name",
            "in names, the client writes every character outside A-Z a-z 0-9 _ - as _",
        )
    if text == "*":
        return "unsupported-glob", "write `mcp__*`, or entries by name"
    if text.lower().startswith("mcp__"):
        return "illegal-name", "the prefix `mcp__` is written in small letters"
    if "/" in text or text.startswith("mcp_"):
        return "wrong-dialect", "another client writes it so; here it is `mcp__SERVER__TOOL`"
    if "mcp__" in text:
        return "glued-entries", "separate entries by commas"
    return (
        "unknown-name",
        "it is no tool of the client; for an MCP server write `mcp__SERVER` or `mcp__SERVER__TOOL`",
    )


def _report_inline_servers(document: Document, log: FindingLog) -> None:
    assert isinstance(document.value, dict)
    servers = document.value.get("mcpServers")
    inline = isinstance(servers, dict) or (
        isinstance(servers, list) and any(isinstance(server, dict) for server in servers)
    )
    if inline:
        log.info(
            "inline-servers",
            document.line("mcpServers"),
            "The client does not apply `tools` to servers that an agent defines itself; only what "
            "goes through the gateway is held to the list.",
        )


def _report_late_keys(header: Header, log: FindingLog) -> None:
    """A line --- inside a text ends the header early; what was meant to be its rest is prose."""
    lines = header.body.split("\n")
    for offset, text in enumerate(lines):
        if text.startswith("```"):
            return
        late = _LATE_KEY.match(text)
        if late is None:
            continue
        if any(later.rstrip() == "---" for later in lines[offset + 1 :]):
            log.warning(
                "policy-after-fence",
                header.body_line + offset,
                f"`{late[1]}` stands after the line --- that ends the header and has no effect; "
                "move it above.",
            )
        return
