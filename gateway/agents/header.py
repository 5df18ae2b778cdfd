"""Reads a header's YAML: strictly, else by the client's own fallback where a dialect has one.

Around the keys that grant or restrict, two YAML readers must not be able to differ: only literal
values in an ordinary layout pass.
"""

import re
from collections.abc import Callable, Sequence
from typing import TypeAlias

from gateway.agents.frontmatter import FENCE_LINE, FIRST_HEADER_LINE, Header
from gateway.agents.log import FindingLog, shown
from gateway.documents import Document, DocumentError, YamlSyntaxError, read_yaml

Fallback: TypeAlias = Callable[[Header, YamlSyntaxError, FindingLog], Document | None]

HIDDEN = re.compile("[\xad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]")
"""Characters that take no room or turn the direction of the text around them."""

# A comment without a space before it: libyaml takes it, other readers do not.
_GLUED_COMMENT = re.compile(r"""["'\]\},\[{]#""")
# What may stand in the first column below a key and still belong to it.
_CONTINUES = re.compile(r"[ \t]|#|-(?:[ \t]|$)|\]|$")


def read_header(
    header: Header, policy_keys: Sequence[str], fallback: Fallback | None, log: FindingLog
) -> Document | None:
    """The header as a document whose value is a dict; None, with an error in `log`, if refused."""
    try:
        document = read_yaml(header.text, path=log.path, first_line=FIRST_HEADER_LINE)
    except YamlSyntaxError as error:
        if fallback is not None:
            return fallback(header, error, log)
        log.error("invalid-yaml", error.line or FENCE_LINE, error.message)
        return None
    except DocumentError as error:
        log.error("unsafe-yaml", error.line or FENCE_LINE, error.message)
        return None
    if not isinstance(document.value, dict):
        log.error("not-a-mapping", FIRST_HEADER_LINE, "The header must be lines of `key: value`.")
        return None
    for key in policy_keys:
        if key in document.value:
            _check_layout(header, document, key, log)
    return document


def lines_of(header: Header, document: Document, key: str) -> list[str]:
    """The lines from a top-level key to the next one, without line ends."""
    lines = header.text.replace("\r\n", "\n").split("\n")
    start = document.line(key)
    later = [line for where, line in document.lines.items() if len(where) == 1 and line > start]
    end = min(later, default=FIRST_HEADER_LINE + len(lines))
    return lines[start - FIRST_HEADER_LINE : end - FIRST_HEADER_LINE]


def _check_layout(header: Header, document: Document, key: str, log: FindingLog) -> None:
    line = document.line(key)
    if document.is_indirect(key):
        log.error(
            "indirect-policy",
            line,
            f"`{key}` comes by an anchor, alias, merge key or tag; write it out.",
        )
        return
    first, *rest = lines_of(header, document, key)
    unclear = (
        re.match(rf"""(?:{key}|"{key}"|'{key}')[ \t]*:""", first) is None
        or any(_CONTINUES.match(text) is None or text.strip() == "---" for text in rest)
        or any(_GLUED_COMMENT.search(text) for text in (first, *rest))
    )
    if unclear:
        log.error(
            "unclear-layout",
            line,
            f"`{key}` is laid out in a way that readers of YAML take differently; write it as one "
            "line in the first column, or as an indented list.",
        )
    for offset, text in enumerate((first, *rest)):
        hidden = HIDDEN.search(text)
        if hidden is not None:
            log.error(
                "hidden-character",
                line + offset,
                f"`{key}` holds the invisible character U+{ord(hidden.group()):04X}; remove it.",
            )


def check_keys(document: Document, exact: Sequence[str], log: FindingLog) -> None:
    """Refuse keys that look as if they restrict the agent, and that the client ignores."""
    assert isinstance(document.value, dict)
    restricting = _RESTRICTING.union(*((_fold(name), _fold(name) + "s") for name in exact))
    for key in document.value:
        if key in exact:
            continue
        line = document.line(key)
        disguised = not key.isascii() and re.search("[A-Za-z]", key) is not None
        if disguised or _fold(key) in restricting:
            log.error(
                "near-miss-key",
                line,
                f"The client ignores the key {shown(key)}, so what it should restrict is not "
                f"restricted; write {' or '.join(f'`{name}`' for name in exact)}, or remove it.",
            )
        elif _fold(key) in _IGNORED:
            log.warning(
                "ignored-key",
                line,
                f"The client ignores the key {shown(key)} in an agent file; remove it.",
            )


def _fold(key: str) -> str:
    return re.sub("[^a-z]", "", key.lower())


_IGNORED = frozenset(["permission", "permissions"])
_RESTRICTING = frozenset(
    [
        "tool",
        "tools",
        "allowtools",
        "allowedtool",
        "allowedtools",
        "denytools",
        "deniedtools",
        "disallowedtool",
        "disallowedtools",
        "mcpserver",
        "mcpservers",
    ]
)
