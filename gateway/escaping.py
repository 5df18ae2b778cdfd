"""Text that cannot fool whoever looks at it: what does not show itself is written as an escape."""

import re
from collections.abc import Iterator

# Printable by Unicode's book, and still invisible: joiners, fillers, blanks, variation selectors.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0"
    "\U000e0100-\U000e01ef]"
)


def escape(text: str) -> str:
    """`text` on one line, with every character that does not show itself written as an escape."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(part for part, _ in escaped(text))


def escaped(text: str) -> Iterator[tuple[str, bool]]:
    """The same character by character, each with whether it is an escape."""
    for character in text:
        if character.isprintable() and not _INVISIBLE.match(character):
            yield character, False
        elif ord(character) < 0x80:
            yield character.encode("unicode_escape", "surrogatepass").decode("ascii"), True
        else:
            yield _numbered(ord(character)), True


def _numbered(code: int) -> str:
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
