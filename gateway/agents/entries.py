"""What the dialects share: the texts of a tool list, and the value that a dialect makes of them."""

import re
from collections.abc import Iterable

import msgspec

from gateway.agents.definition import ToolPattern
from gateway.agents.log import FindingLog, shown
from gateway.documents import Document

_UNPRINTABLE = re.compile(r"[^\x20-\x7e\t\n]")


class Declared(msgspec.Struct, frozen=True):
    """A header's tool lists."""

    inherits: bool
    tools: tuple[ToolPattern, ...] = ()
    disallowed: tuple[ToolPattern, ...] = ()


class Text(msgspec.Struct, frozen=True):
    """A string of a tool list, not yet split, and its line."""

    text: str
    line: int


def texts_of(document: Document, key: str, log: FindingLog) -> list[Text]:
    """The string, or the strings of the list, under `key`; [] with an error if it is neither.

    Null counts as an empty list, as it does for the clients.
    """
    assert isinstance(document.value, dict)
    value = document.value.get(key)
    line = document.line(key)
    if value is None:
        return []
    if isinstance(value, str):
        texts = [Text(value, line)]
    elif isinstance(value, list) and all(isinstance(item, str) for item in value):
        texts = [Text(item, document.line(key, index)) for index, item in enumerate(value)]
    else:
        log.error(
            "wrong-type",
            line,
            f"`{key}` must be a text or a list of texts; quote an entry that looks like a number "
            "or a mapping.",
        )
        return []
    return [text for text in texts if is_printable(text.text, text.line, key, log)]


def is_printable(text: str, line: int, key: str, log: FindingLog) -> bool:
    """Whether `text` is visible ASCII; if not, an error says which character is not."""
    found = _UNPRINTABLE.search(text)
    if found is None:
        return True
    log.error(
        "look-alike-character",
        line,
        f"`{key}` holds the character U+{ord(found.group()):04X} in {shown(text)}; tool names and "
        "their separators are plain ASCII, so type it again.",
    )
    return False


def report_natives(patterns: Iterable[ToolPattern], line: int, log: FindingLog) -> None:
    """Say which entries the gateway does not govern, and whether any is left that it does."""
    patterns = tuple(patterns)
    natives = [pattern.text for pattern in patterns if pattern.form == "native"]
    if not natives:
        return
    listed = ", ".join(natives[:20]) + (", ..." if len(natives) > 20 else "")
    log.info("native-tools", line, f"Tools of the client, not governed here: {listed}.")
    if len(natives) == len(patterns):
        log.info("native-only", line, "No MCP tool is listed, so the agent gets none.")
