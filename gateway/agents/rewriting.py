"""Writes another tool list into an agent file and leaves the rest of it as it is.

The list keeps its form: a text, a list on one line, or a list of lines. What comes out is read back
and must say exactly what was asked for.
"""

import re
from collections.abc import Sequence

from gateway.agents.compat import read_compat
from gateway.agents.definition import AgentDefinition, Dialect
from gateway.agents.frontmatter import split_header
from gateway.agents.header import lines_of, read_header
from gateway.agents.log import FindingLog
from gateway.agents.reader import read_definition
from gateway.documents import Document

REWRITTEN: tuple[Dialect, ...] = ("claude", "copilot")
"""The dialects whose lists can be written; those of the others are no plain lists of names."""

_TEXT = re.compile(
    r"""(?P<key>tools[ \t]*:[ \t]*)(?P<quote>["']?)[^"'#\[]*?(?P=quote)(?P<rest>[ \t]*(?:#.*)?)"""
)
_ITEM = re.compile(r"""(?P<dash>[ \t]*-[ \t]+)(?P<quote>["']?)""")


class RewriteError(ValueError):
    """The list is written in a way that cannot be changed without doubt; says why."""


def with_tools(data: bytes, entries: Sequence[str], *, path: str) -> bytes:
    """The file `data` with `entries` as its whole tool list; raises RewriteError."""
    log = FindingLog(path)
    before = read_definition(data, path=path)
    header = split_header(data, log)
    if before is None or header is None or before.dialect not in REWRITTEN:
        raise RewriteError("the tool lists of this client cannot be rewritten")
    fallback = read_compat if before.dialect == "claude" else None
    document = read_header(header, ("tools",), fallback, log)
    if before.status != "ok" or document is None or not isinstance(document.value, dict):
        raise RewriteError("the header cannot be read safely")
    lines = data.decode(errors="surrogateescape").split("\n")
    end = "\r" if lines[0].endswith("\r") else ""
    fence = header.body_line - 2
    if "tools" in document.value:
        start = document.line("tools") - 1
        old = lines_of(header, document, "tools")[: fence - start]
        new = _rewritten(old, document, entries, before.dialect)
    else:
        start, old = fence, []
        new = [_fresh(entries, before.dialect)]
    lines[start : start + len(old)] = [line + end for line in new]
    written = "\n".join(lines).encode(errors="surrogateescape")
    _check(read_definition(written, path=path), before, entries)
    return written


def _rewritten(
    old: Sequence[str],
    document: Document,
    entries: Sequence[str],
    dialect: Dialect,
) -> list[str]:
    """The lines of the key and its value, with what follows them up to the next key."""
    assert isinstance(document.value, dict)
    value = document.value["tools"]
    first, tail = old[0], _tail(old)
    if isinstance(value, list) and value and document.line("tools", 0) > document.line("tools"):
        offset = document.line("tools")
        where = [document.line("tools", index) - offset for index in range(len(value))]
        return _items(old, value, where, entries)
    if len(old) - len(tail) > 1:
        raise RewriteError("the list is spread over several lines in a way of its own")
    if isinstance(value, list) and value:
        opening, bracket, rest = first.partition("[")
        inside, _, after = rest.rpartition("]")
        quote = inside.lstrip()[:1] if inside.lstrip()[:1] in "\"'" else ""
        listed = ", ".join(f"{quote}{entry}{quote}" for entry in entries)
        return [f"{opening}{bracket}{listed}]{after}", *tail]
    found = _TEXT.fullmatch(first) if isinstance(value, str) else None
    if found is not None and entries:
        quote = found["quote"]
        return [f"{found['key']}{quote}{', '.join(entries)}{quote}{found['rest']}", *tail]
    return [_fresh(entries, dialect), *tail]


def _items(
    old: Sequence[str], value: Sequence[object], where: Sequence[int], entries: Sequence[str]
) -> list[str]:
    """A list of lines: those of entries that stay are kept as they are."""
    if not entries:
        return ["tools: []", *_tail(old)]
    style = _ITEM.match(old[where[0]])
    if style is None:
        raise RewriteError("its items are not written as lines of their own")
    missing = list(entries)
    gone = set()
    for item, number in zip(value, where, strict=True):
        if item in missing:
            missing.remove(str(item))
        else:
            gone.add(number)
    quote = style["quote"]
    added = [f"{style['dash']}{quote}{entry}{quote}" for entry in missing]
    lines: list[str] = []
    for number, line in enumerate(old):
        if number not in gone:
            lines.append(line)
        if number == where[-1]:
            lines += added
    return lines


def _tail(old: Sequence[str]) -> list[str]:
    """Blank lines and comments after a value, which belong to what follows."""
    end = len(old)
    while end > 1 and (not old[end - 1].strip() or old[end - 1].lstrip().startswith("#")):
        end -= 1
    return list(old[end:])


def _fresh(entries: Sequence[str], dialect: Dialect) -> str:
    if dialect == "claude" and entries:
        return f"tools: {', '.join(entries)}"
    listed = (
        ", ".join(entries) if dialect == "claude" else ", ".join(f"'{each}'" for each in entries)
    )
    return f"tools: [{listed}]"


def _check(after: AgentDefinition | None, before: AgentDefinition, entries: Sequence[str]) -> None:
    """Raise RewriteError unless the file now says what was meant, and all else as before."""
    same = (
        after is not None
        and after.status == "ok"
        and not after.inherits
        and after.name == before.name
        and [each.text for each in after.disallowed] == [each.text for each in before.disallowed]
        and {each.text for each in after.tools} == set(entries)
    )
    if not same:
        raise RewriteError("the list is written in a way that cannot be changed without doubt")
