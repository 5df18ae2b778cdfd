"""Claude Code's own fallback for headers that are not YAML, narrowed to what cannot mislead.

On a syntax error the client quotes every `key: value` line in the first column whose value has a
special character, and parses again (measured on 2.1.330; 9.5 % of real files need it). Under that
reading a comment is text, so the keys that grant must be plain enough to mean the same in both.
"""

import re

from gateway.agents.frontmatter import FENCE_LINE, FIRST_HEADER_LINE, Header
from gateway.agents.header import lines_of
from gateway.agents.log import FindingLog
from gateway.documents import Document, DocumentError, YamlSyntaxError, read_yaml

_KEY_LINE = re.compile(r"([A-Za-z][A-Za-z0-9_-]*):[ \t]+(\S.*)")
_SPECIAL = re.compile(r"[{}\[\]*&#!|>%@`]|: ")
_PLAIN = r"[A-Za-z_*][A-Za-z0-9_*,() .:/-]*"
_PLAIN_VALUE = re.compile(rf"{_PLAIN}|\[ *(?:{_PLAIN})?\]")
_PLAIN_ITEM = re.compile(rf" *- +({_PLAIN})")
_COLON_ENDS = re.compile(r":(?: |\]|$)")
_PLAIN_NAME = re.compile(r"""name: +(["']?)[A-Za-z0-9_. -]+\1 *""")


def read_compat(header: Header, error: YamlSyntaxError, log: FindingLog) -> Document | None:
    """Read a header that failed as YAML with `error`; None, with an error in `log`, if refused."""
    failed_at = error.line or FENCE_LINE
    document = None
    if "\r" not in header.text:
        document = _parse_quoted(header, log.path)
    if document is None or not isinstance(document.value, dict):
        log.error("invalid-yaml", failed_at, error.message)
        return None
    for key in ("tools", "disallowedTools"):
        line = _unclear_line(header, document, key)
        if line is not None:
            log.error(
                "compat-unclear",
                line,
                f"The header is not valid YAML (line {failed_at}), and `{key}` is not plain enough "
                "to be read the same way regardless; quote the text on that line.",
            )
            return None
    if _PLAIN_NAME.fullmatch(_only_line(header, "name")) is None:
        log.error("invalid-yaml", failed_at, error.message)
        return None
    if "tools" not in document.value:
        log.error(
            "compat-no-tools",
            failed_at,
            f"{error.message} The client still loads this agent, with every tool; correct the line "
            "or list the agent's tools.",
        )
    else:
        log.warning(
            "compat-yaml",
            failed_at,
            f"{error.message} The client reads it by guessing, and so does the gateway.",
        )
    return document


def _parse_quoted(header: Header, path: str) -> Document | None:
    text = "\n".join(_quoted(line) for line in header.text.split("\n"))
    try:
        return read_yaml(text, path=path, first_line=FIRST_HEADER_LINE)
    except DocumentError:
        return None


def _quoted(line: str) -> str:
    found = _KEY_LINE.fullmatch(line)
    if found is None:
        return line
    key, value = found.groups()
    if value[0] in "\"'[" or _SPECIAL.search(value) is None:
        return line
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'{key}: "{escaped}"'


def _unclear_line(header: Header, document: Document, key: str) -> int | None:
    """The line on which `key` could be read in two ways, or None."""
    lines = header.text.split("\n")
    own = [number for number, text in enumerate(lines) if text.startswith(f"{key}:")]
    nested = re.compile(rf"""[ \t]+(?:- *)?["']?{key}["']?[ \t]*:""")
    for number, text in enumerate(lines):
        if nested.match(text) or number in own[1:]:
            return FIRST_HEADER_LINE + number
    assert isinstance(document.value, dict)
    if not own:
        return document.line(key) if key in document.value else None
    line = FIRST_HEADER_LINE + own[0]
    if key not in document.value or document.line(key) != line or document.is_indirect(key):
        return line
    first, *rest = lines_of(header, document, key)
    items = [text for text in rest if text.strip(" ")]
    value = first.removeprefix(f"{key}:")
    if value.strip(" "):
        plain = value.startswith(" ") and not items and _is_plain(_PLAIN_VALUE, value.strip(" "))
    else:
        plain = all(_is_plain(_PLAIN_ITEM, text) for text in items)
    return None if plain else line


def _is_plain(form: re.Pattern[str], text: str) -> bool:
    return form.fullmatch(text) is not None and _COLON_ENDS.search(text) is None


def _only_line(header: Header, key: str) -> str:
    lines = [line for line in header.text.split("\n") if line.startswith(f"{key}:")]
    return lines[0] if len(lines) == 1 else ""
