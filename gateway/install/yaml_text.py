"""Writes gateway.yaml, and changes an existing one without touching what people wrote in it.

Every change is read back: where the file would not mean exactly what was wanted, it is refused with
words on what to write by hand.
"""

import json
import re
from collections.abc import Mapping, Sequence

from gateway.documents import Document, read_yaml
from gateway.errors import UserError
from gateway.install.carrying import WHERE_THE_SESSION_IS, Entry

_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./@-]*")
_NOT_TEXT = re.compile(r"null|true|false|yes|no|on|off|y|n", re.IGNORECASE)
_UNSAFE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_WIDTH = 100
_COMMENTS = {
    "mode": "observe: decide and record, refuse nothing; `gateway enforce` ends it",
    "main_thread": "the session itself: the name of an agent, observe, or a list of tools",
    "builtin_agents": "the client's own agents, which have no file: the same",
    "native_tools": "Read, Bash and the like by the agents' lists: off, observe or enforce",
    "agents_from": "where agent files are",
}


def new_config(settings: Mapping[str, str | Sequence[str]], upstreams: Mapping[str, Entry]) -> str:
    """The text of a whole gateway.yaml."""
    lines = ["# Made by `gateway init`; `gateway uninstall` takes it back."]
    for key, value in settings.items():
        written = _scalar(value) if isinstance(value, str) else _flow(value)
        comment = _COMMENTS.get(key)
        lines.append(f"{key}: {written}" + (f"  # {comment}" if comment else ""))
    lines += ["upstreams:", *_entries(upstreams, "  ", "  ")]
    return "\n".join(lines) + "\n"


def add_upstreams(text: str, upstreams: Mapping[str, Entry], *, path: str) -> str:
    """`text` with more upstreams; comments and all else stay.

    Raises UserError where that cannot be done safely.
    """
    if not upstreams:
        return text
    document = read_yaml(text, path=path)
    value = document.value if document.value is not None else {}
    if not isinstance(value, dict):
        raise _by_hand(document, upstreams)
    section = value.get("upstreams")
    wanted = {**value, "upstreams": {**(section if isinstance(section, dict) else {}), **upstreams}}
    lines, end = _lines(text)
    if "upstreams" not in value:
        added = ["upstreams:", *_entries(upstreams, "  ", "  ")]
        at = len(lines)
    else:
        at = document.line("upstreams")
        indent = _indent_of_children(document, lines, section)
        if indent is None:
            raise _by_hand(document, upstreams)
        added = _entries(upstreams, indent, indent)
    return _checked(text, [*lines[:at], *added, *lines[at:]], end, wanted, document, upstreams)


def set_values(text: str, values: Mapping[str, str], *, path: str) -> str:
    """`text` with other values of top-level keys, each of which is one plain word.

    Raises UserError where that cannot be done safely.
    """
    for key, new in values.items():
        document = read_yaml(text, path=path)
        value = document.value if document.value is not None else {}
        if not isinstance(value, dict):
            raise _by_hand(document, {key: new})
        if value.get(key) == new:
            continue
        lines, end = _lines(text)
        if key in value:
            at = document.line(key) - 1
            found = _MEMBER.fullmatch(lines[at]) if at < len(lines) else None
            if found is None:
                raise _by_hand(document, {key: new})
            lines[at] = f"{found[1]}{new}{found[2]}"
        else:
            tops = [line for where, line in document.lines.items() if len(where) == 1]
            lines.insert(min(tops, default=len(lines) + 1) - 1, f"{key}: {new}")
        text = _checked(text, lines, end, {**value, key: new}, document, {key: new})
    return text


def remove_include(text: str, name: str, *, path: str) -> str:
    """`text` without `include: name`, if that line says nothing else; raises UserError if it does.

    A file whose servers start the gateway can no longer be included.
    """
    document = read_yaml(text, path=path)
    value = document.value
    if not isinstance(value, dict) or value.get("include") not in (name, [name]):
        raise UserError(
            f"includes {name}, whose servers init moves here; take {name} out of `include` and run "
            "init again",
            path=path,
            line=document.line("include"),
        )
    lines, end = _lines(text)
    at = document.line("include") - 1
    count = 1 if isinstance(value["include"], str) or "[" in lines[at] else 2
    wanted = {key: inner for key, inner in value.items() if key != "include"}
    left = [*lines[:at], *lines[at + count :]]
    return _checked(text, left, end, wanted or None, document, {"include": name})


_MEMBER = re.compile(
    r"""([A-Za-z_]+[ \t]*:[ \t]+)(?:[A-Za-z_]+|"[a-z]*"|'[a-z]*')([ \t]*(?:#.*)?)"""
)


def _lines(text: str) -> tuple[list[str], str]:
    """The lines of `text` without their ends, and what ends them."""
    end = "\r\n" if "\r\n" in text else "\n"
    lines = text.split(end)
    if lines[-1] == "":
        lines.pop()
    return lines, end


def _checked(
    old: str,
    lines: Sequence[str],
    end: str,
    wanted: object,
    document: Document,
    new: Mapping[str, object],
) -> str:
    text = end.join(lines) + (end if old.endswith("\n") else "")
    try:
        right = read_yaml(text, path=document.path).value == wanted
    except UserError:
        right = False
    if not right:
        raise _by_hand(document, new)
    return text


def _by_hand(document: Document, new: Mapping[str, object]) -> UserError:
    return UserError(
        "cannot be changed safely as it is laid out; write these keys there by hand and run this "
        f"again: {', '.join(new)}",
        path=document.path,
        line=document.line("upstreams") if document.lines else None,
    )


def _indent_of_children(document: Document, lines: Sequence[str], section: object) -> str | None:
    """The indentation of the entries under `upstreams:`; None where they are not laid out so."""
    line = lines[document.line("upstreams") - 1]
    if not re.fullmatch(r"""upstreams[ \t]*:[ \t]*(#.*)?""", line):
        return None
    if section is None:
        return "  "
    if not isinstance(section, dict) or not section:
        return None
    first = lines[document.line("upstreams", next(iter(section))) - 1]
    return first[: len(first) - len(first.lstrip(" "))] or None


def _entries(upstreams: Mapping[str, Entry], indent: str, unit: str) -> list[str]:
    lines = []
    for name, entry in upstreams.items():
        lines.append(f"{indent}{_scalar(name)}:")
        inner = indent + unit
        for key, value in entry.items():
            if isinstance(value, dict):
                lines.append(f"{inner}{key}:")
                lines += [
                    f"{inner}{unit}{_scalar(each)}: {_scalar(str(text))}"
                    for each, text in value.items()
                ]
            elif isinstance(value, list):
                flow = f"{inner}{key}: {_flow(value)}"
                if len(flow) <= _WIDTH:
                    lines.append(flow)
                else:
                    lines.append(f"{inner}{key}:")
                    lines += [f"{inner}{unit}- {_scalar(each)}" for each in value]
            else:
                told = "  # where the session is" if value == WHERE_THE_SESSION_IS else ""
                lines.append(f"{inner}{key}: {_scalar(str(value))}{told}")
    return lines


def _flow(values: Sequence[str]) -> str:
    return f"[{', '.join(map(_scalar, values))}]"


def _scalar(text: str) -> str:
    if _PLAIN.fullmatch(text) and not _NOT_TEXT.fullmatch(text):
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", quoted)
