"""Reads agent files: which dialect, which agent, and what it declares."""

import hashlib
import itertools
import re
from collections.abc import Callable, Iterable
from pathlib import PurePosixPath

import msgspec

from gateway.agents import claude, copilot, gemini, opencode
from gateway.agents.compat import read_compat
from gateway.agents.definition import AgentDefinition, Dialect, Finding
from gateway.agents.entries import Declared
from gateway.agents.frontmatter import FENCE_LINE, MAX_HEADER_BYTES, Header, split_header
from gateway.agents.header import HIDDEN, Fallback, read_header
from gateway.agents.log import FindingLog, shown
from gateway.documents import Document


class _Grammar(msgspec.Struct, frozen=True):
    """How one dialect is read."""

    policy_keys: tuple[str, ...]
    declare: Callable[[Document, Header, FindingLog], Declared]
    named_by: tuple[str, ...]
    """"key": the `name` in the header; "file": the file's name; the first that there is."""
    needs_description: bool
    fallback: Fallback | None = None


_GRAMMARS: dict[Dialect, _Grammar] = {
    "claude": _Grammar(claude.POLICY_KEYS, claude.declare, ("key",), True, read_compat),
    "copilot": _Grammar(copilot.POLICY_KEYS, copilot.declare, ("key", "file"), False),
    "gemini": _Grammar(gemini.POLICY_KEYS, gemini.declare, ("key",), True),
    "opencode": _Grammar(opencode.POLICY_KEYS, opencode.declare, ("file",), False),
}

_SIMPLE_NAME = re.compile(rb"^name:[ \t]*([A-Za-z0-9][A-Za-z0-9_.-]*)[ \t]*\r?$", re.MULTILINE)
_UNFIT_NAME = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029:]")


def read_definition(data: bytes, *, path: str) -> AgentDefinition | None:
    """Read one file; None where it has no header, and so is no agent file. Raises nothing.

    `path` says which dialect it is and stands in the findings; nothing is read from it.
    """
    log = FindingLog(path)
    dialect = dialect_of(path)
    grammar = _GRAMMARS[dialect]
    header = split_header(data, log)
    if header is None and not log.findings:
        return None
    document = None
    if header is not None:
        document = read_header(header, grammar.policy_keys, grammar.fallback, log)
    declared = Declared(inherits=False)
    tools_line = FENCE_LINE
    if header is None or document is None:
        name = _guess_name(data, path, grammar)
    else:
        name = _read_name(document, path, grammar, log)
        if grammar.needs_description:
            _check_description(document, log)
        declared = grammar.declare(document, header, log)
        if ("tools",) in document.lines:
            tools_line = document.line("tools")
    return AgentDefinition(
        name=name,
        path=path,
        dialect=dialect,
        status="denied" if log.denied else "ok",
        inherits=declared.inherits and not log.denied,
        tools=declared.tools,
        disallowed=declared.disallowed,
        findings=tuple(log.findings),
        tools_line=tools_line,
        digest=hashlib.sha256(data).hexdigest(),
    )


def read_definitions(files: Iterable[tuple[str, bytes]]) -> tuple[AgentDefinition, ...]:
    """Read (path, bytes) pairs as one set; agents whose name is taken twice are all denied.

    Which of the files a client would take depends on the order in which its file system lists them.
    """
    read = (read_definition(data, path=path) for path, data in files)
    definitions = [definition for definition in read if definition is not None]
    paths: dict[str, list[str]] = {}
    for definition in definitions:
        paths.setdefault(definition.name, []).append(definition.path)
    return tuple(
        _doubled(definition, paths[definition.name])
        if definition.name and len(paths[definition.name]) > 1
        else definition
        for definition in definitions
    )


def dialect_of(path: str) -> Dialect:
    """The dialect of a file: by the client's directory, else by the suffix, else Claude Code's."""
    parts = path.replace("\\", "/").split("/")
    for parent, child in itertools.pairwise(parts[:-1]):
        match parent, child:
            case ".claude", "agents":
                return "claude"
            case ".github", "agents":
                return "copilot"
            case ".gemini", "agents":
                return "gemini"
            case ".opencode", "agent" | "agents":
                return "opencode"
    return "copilot" if path.endswith(".agent.md") else "claude"


def _doubled(definition: AgentDefinition, paths: list[str]) -> AgentDefinition:
    others = ", ".join(path for path in paths if path != definition.path) or definition.path
    finding = Finding(
        "doubled-name",
        "error",
        f"Another file defines the agent {shown(definition.name)} too: {others}; rename one.",
        definition.path,
        FENCE_LINE,
    )
    return msgspec.structs.replace(
        definition, status="denied", inherits=False, findings=(*definition.findings, finding)
    )


def _read_name(document: Document, path: str, grammar: _Grammar, log: FindingLog) -> str:
    assert isinstance(document.value, dict)
    if "key" not in grammar.named_by:
        return _file_name(path)
    name = document.value.get("name")
    if name is None and "file" in grammar.named_by:
        return _file_name(path)
    line = document.line("name")
    if not isinstance(name, str) or not name.strip():
        log.error(
            "no-name", line, "The header has no `name`, so the client loads no agent; add it."
        )
        return ""
    if document.is_indirect("name"):
        log.error("indirect-policy", line, "`name` comes by an anchor, alias or tag; write it out.")
    if name != name.strip() or _UNFIT_NAME.search(name) or HIDDEN.search(name):
        log.error(
            "unfit-name",
            line,
            f"The name {shown(name)} holds a colon, a blank at an end, or a character that does "
            "not show; use letters, digits and hyphens.",
        )
    return name


def _check_description(document: Document, log: FindingLog) -> None:
    assert isinstance(document.value, dict)
    description = document.value.get("description")
    if not isinstance(description, str) or not description.strip():
        log.error(
            "no-description",
            document.line("description"),
            "The header has no `description`, so the client loads no agent; add it.",
        )


def _guess_name(data: bytes, path: str, grammar: _Grammar) -> str:
    """A name under which to deny what could not be read."""
    found = _SIMPLE_NAME.findall(data[:MAX_HEADER_BYTES])
    if "key" in grammar.named_by and len(found) == 1:
        name = found[0]
        assert isinstance(name, bytes)
        return name.decode()
    return _file_name(path) if "file" in grammar.named_by else ""


def _file_name(path: str) -> str:
    name = PurePosixPath(path.replace("\\", "/")).name
    return name.removesuffix(".md").removesuffix(".agent")
