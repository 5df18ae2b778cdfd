"""Reads JSON with comments and trailing commas strictly, and notes where every part of it is."""

import json
import re
from typing import TypeAlias

from gateway.documents import DocumentError

Key: TypeAlias = str | int

MAX_DEPTH = 200
_GAP = re.compile(r"(?:[ \t\r\n]++|//[^\r\n]*+|/\*(?s:.*?)\*/)*+")
_STRING = re.compile(r'"[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+"')
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][-+]?[0-9]++)?+(?![\w.])")
_WORD = re.compile(r"(?:true|false|null)(?!\w)")
_WORDS = {"true": True, "false": False, "null": None}


class Node:
    """One value: where it is (`start` to `end`), what it means, and the parts it consists of."""

    __slots__ = ("end", "parts", "start", "value")

    def __init__(
        self, start: int, end: int, value: object, parts: "tuple[Part, ...] | None"
    ) -> None:
        self.start = start
        self.end = end
        self.value = value
        self.parts = parts  # None: neither an object nor a list


class Part:
    """A member of an object or an item of a list; `comma` is where its comma is, if it has one."""

    __slots__ = ("comma", "key", "node", "start")

    def __init__(self, start: int, key: Key, node: Node, comma: int | None) -> None:
        self.start = start
        self.key = key
        self.node = node
        self.comma = comma


def scan(text: str, *, path: str) -> Node:
    """The value of a document; raises DocumentError, which names the line and the column."""
    return _Scanner(text, path).document()


def position(text: str, at: int) -> tuple[int, int]:
    return text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)


class _Scanner:
    """Reads one document; an object or a list is read by `container`, all else by `plain`."""

    def __init__(self, text: str, path: str) -> None:
        self.text = text
        self.path = path
        self.at = 1 if text.startswith("\ufeff") else 0

    def document(self) -> Node:
        self.gap()
        node = self.node(0)
        self.gap()
        if self.at != len(self.text):
            raise self.error("something follows the end of the document")
        return node

    def gap(self) -> None:
        found = _GAP.match(self.text, self.at)
        self.at = found.end() if found is not None else self.at

    def node(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise self.error(f"nested deeper than {MAX_DEPTH} levels")
        opening = self.text[self.at : self.at + 1]
        if opening in ("{", "["):
            return self.container(opening, depth)
        return self.plain()

    def plain(self) -> Node:
        start = self.at
        for pattern in (_STRING, _NUMBER, _WORD):
            found = pattern.match(self.text, start)
            if found is not None:
                self.at = found.end()
                word = found[0]
                return Node(start, self.at, _WORDS[word] if word in _WORDS else _scalar(word), None)
        if not self.text[start:]:
            raise self.error("the document ends here, too early")
        if self.text[start] == '"':
            raise self.error("a text is not closed on its line, or has an unknown escape")
        raise self.error("a value is expected here; check commas and quotes")

    def container(self, opening: str, depth: int) -> Node:
        start = self.at
        closing = "}" if opening == "{" else "]"
        parts: list[Part] = []
        keys: set[Key] = set()
        self.at += 1
        self.gap()
        while not self.text.startswith(closing, self.at):
            if parts and parts[-1].comma is None:
                raise self.error(f"a comma or {closing} is expected here")
            begin = self.at
            key: Key = len(parts)
            if opening == "{":
                key = self.key()
                if key in keys:
                    self.at = begin
                    raise self.error(f"the key {key[:60]!a} is given twice; keep one")
                keys.add(key)
            node = self.node(depth + 1)
            self.gap()
            comma = self.at if self.text.startswith(",", self.at) else None
            if comma is not None:
                self.at += 1
                self.gap()
            parts.append(Part(begin, key, node, comma))
        self.at += 1
        value: object = (
            {part.key: part.node.value for part in parts}
            if opening == "{"
            else [part.node.value for part in parts]
        )
        return Node(start, self.at, value, tuple(parts))

    def key(self) -> str:
        found = _STRING.match(self.text, self.at)
        if found is None:
            raise self.error("a key in double quotes is expected here; check commas and quotes")
        self.at = found.end()
        self.gap()
        if not self.text.startswith(":", self.at):
            raise self.error("a colon is expected here")
        self.at += 1
        self.gap()
        return str(json.loads(found[0]))

    def error(self, problem: str) -> DocumentError:
        if self.text.startswith("/*", self.at):
            problem = "a comment is not closed"
        line, column = position(self.text, self.at)
        if line == 1 and self.text.startswith("\ufeff"):
            column -= 1
        return DocumentError(
            f"Not valid JSON at column {column}: {problem}.", path=self.path, line=line
        )


def _scalar(word: str) -> object:
    try:
        return json.loads(word)
    except ValueError:  # an integer of thousands of digits
        return float(word)
