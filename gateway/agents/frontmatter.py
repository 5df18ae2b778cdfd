"""Splits an agent file at its fences, as Claude Code does (measured on 2.1.330).

The header begins on the first line and ends at the first line that is `---`, even where YAML would
still be inside a text.
"""

import re

import msgspec

from gateway.agents.log import FindingLog

MAX_HEADER_BYTES = 64 * 1024
FENCE_LINE = 1
FIRST_HEADER_LINE = 2

_OPENING = re.compile(rb"---[ \t]*\r?\n")
_CLOSING = re.compile(rb"^---[ \t]*\r?$", re.MULTILINE)
_NEARLY_FENCE = re.compile(rb"^---", re.MULTILINE)
_LATE_HEADER = re.compile(rb"\s+---[ \t]*\r?\n(?=(?:.*\n){0,99}?(?:name|tools)[ \t]*:)")
_MARK = b"\xef\xbb\xbf"


class Header(msgspec.Struct, frozen=True):
    """The text between the fences, and what follows them."""

    text: str
    body: str
    body_line: int
    """1-based line on which the body begins."""


def split_header(data: bytes, log: FindingLog) -> Header | None:
    """Split a file; None where it has no header, or is refused with an error in `log`."""
    data = data.removeprefix(_MARK)
    opening = _OPENING.match(data)
    if opening is None:
        if _LATE_HEADER.match(data[:MAX_HEADER_BYTES]):
            log.error(
                "header-not-first",
                FENCE_LINE,
                "The header does not begin on the first line, so the client loads no agent; "
                "delete what stands before the first ---.",
            )
        return None
    start = opening.end()
    closing = _CLOSING.search(data, start)
    if closing is None or closing.start() - start > MAX_HEADER_BYTES:
        if len(data) - start > MAX_HEADER_BYTES:
            log.error(
                "header-too-long",
                FENCE_LINE,
                f"The header is longer than {MAX_HEADER_BYTES} bytes; shorten it, or close it "
                "with a line ---.",
            )
        else:
            log.error(
                "header-not-closed",
                FENCE_LINE,
                "No line --- closes the header, so the client loads no agent; add it.",
            )
        return None
    raw = data[start : closing.start()]
    nearly = _NEARLY_FENCE.search(raw)
    if nearly is not None:
        log.error(
            "unclear-fence",
            FIRST_HEADER_LINE + raw.count(b"\n", 0, nearly.start()),
            "This line begins like the closing fence and goes on, which clients read in different "
            "ways; indent it or remove it.",
        )
        return None
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        log.error(
            "not-utf-8",
            FIRST_HEADER_LINE + raw.count(b"\n", 0, error.start),
            "The header is not valid UTF-8; save the file as UTF-8.",
        )
        return None
    body_line = FIRST_HEADER_LINE + raw.count(b"\n") + 1
    body = data[closing.end() :].decode(errors="replace").removeprefix("\n")
    return Header(text, body, body_line)
