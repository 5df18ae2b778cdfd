"""JSON with the line of every value, for the `.mcp.json` files that clients keep.

Not read as YAML: JSON may be indented with tabs and writes some characters as pairs of escapes.
"""

import json
import re

from gateway.documents import Document, DocumentError

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},]|\n|[^\s"\[\]{},:]+')
_MAX_DEPTH = 64


def read_json(text: str, *, path: str) -> Document:
    """Read one JSON document strictly; raises DocumentError, which names the path and the line."""
    text = text.removeprefix("\ufeff")
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise DocumentError(
            f"Not valid JSON: {error.msg[0].lower()}{error.msg[1:]}; check commas and quotes here.",
            path=path,
            line=error.lineno,
        ) from None
    except RecursionError:
        raise DocumentError("Nested too deep; flatten it.", path=path, line=1) from None
    except ValueError:
        raise DocumentError("Holds a number that JSON does not have.", path=path, line=1) from None
    if _has_half_character(value):
        raise DocumentError("Holds half a character (\\ud800 to \\udfff).", path=path, line=1)
    return Document(path, value, _Walker(text, path).walk())


def _has_half_character(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _refuse_constant(name: str) -> object:
    raise ValueError(name)


class _Walker:
    """Notes the line of every key and list item of a text that is known to be valid JSON."""

    def __init__(self, text: str, path: str) -> None:
        self.pieces = _TOKEN.finditer(text)
        self.path = path
        self.line = 1
        self.lines: dict[tuple[str | int, ...], int] = {}

    def walk(self) -> dict[tuple[str | int, ...], int]:
        first = self.next()
        self.lines[()] = self.line
        self.value(first, ())
        return self.lines

    def next(self) -> str:
        for found in self.pieces:
            if found[0] != "\n":
                return found[0]
            self.line += 1
        return ""

    def value(self, piece: str, where: tuple[str | int, ...]) -> None:
        if len(where) > _MAX_DEPTH:
            raise DocumentError("Nested too deep; flatten it.", path=self.path, line=self.line)
        if piece == "{":
            while (piece := self.next()) != "}":
                if piece == ",":
                    continue
                key = json.loads(piece)
                if (*where, key) in self.lines:
                    raise DocumentError(
                        f"The key {key[:60]!a} is given twice; keep one.",
                        path=self.path,
                        line=self.line,
                    )
                self.lines[*where, key] = self.line
                self.value(self.next(), (*where, key))
        elif piece == "[":
            index = 0
            while (piece := self.next()) != "]":
                if piece == ",":
                    continue
                self.lines[*where, index] = self.line
                self.value(piece, (*where, index))
                index += 1
