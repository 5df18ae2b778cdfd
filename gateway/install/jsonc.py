"""JSON with comments and trailing commas, edited where it stands: only the named parts change.

A `Text` is a parsed document that remembers where every part of it is. An edit gives a new `Text`;
every character outside of what the edit says stays, comments and odd indentation included, and what
is new follows the style that is there.
"""

import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property

from gateway.documents import DocumentError
from gateway.install.jsonc_scanner import Key, Node, Part, position, scan

Where = tuple[Key, ...]

_LINE_GAP = re.compile(r"(?:[ \t]++|/\*[^\r\n]*?\*/)*+(?://[^\r\n]*+)?+")
_INDENT = re.compile(r"[ \t]*+")


class Text:
    """A document of JSON with comments; `path` is for errors only."""

    def __init__(self, text: str, *, path: str) -> None:
        """Raises DocumentError, which names the line and the column."""
        self.text = text
        self.path = path
        self.root = scan(text, path=path)

    @property
    def value(self) -> object:
        """What the document means."""
        return self.root.value

    def find(self, *where: Key) -> Node | None:
        """The value at `where`, None if there is none."""
        node = self.root
        for key in where:
            found = next((part for part in node.parts or () if part.key == key), None)
            if found is None:
                return None
            node = found.node
        return node

    def raw(self, *where: Key) -> str:
        """The characters of the value at `where`, which exists."""
        node = self._at(where)
        return self.text[node.start : node.end]

    def position(self, *where: Key) -> tuple[int, int]:
        """The 1-based line and column of the value at `where`, which exists."""
        return position(self.text, self._at(where).start)

    def replace(self, where: Where, raw: str) -> "Text":
        """The document with `raw` (JSON text) as the value at `where`."""
        node = self._at(where)
        return self._spliced([(node.start, node.end, raw)])

    def insert(
        self, where: Where, key: str, raw: str, *, after: str | None = None, front: bool = False
    ) -> "Text":
        """The document with the member `key` in the object at `where`.

        It comes behind the member `after`, or with `front` as the first; else as the last.
        """
        parts = self._parts(where, dict)
        if any(part.key == key for part in parts):
            raise ValueError("the member exists")
        index = 0 if front else len(parts)
        if after is not None and not front:
            index = next((n for n, part in enumerate(parts, 1) if part.key == after), index)
        name = json.dumps(key, ensure_ascii=False)
        return self._insert(where, index, f"{name}: {raw}")

    def append(self, where: Where, raw: str) -> "Text":
        """The document with one more item at the end of the list at `where`."""
        return self._insert(where, len(self._parts(where, list)), raw)

    def remove(self, where: Where) -> "Text":
        """The document without the member or item at `where`; comments around it stay."""
        container = self._at(where[:-1])
        parts = container.parts or ()
        index = next(n for n, part in enumerate(parts) if part.key == where[-1])
        part = parts[index]
        cuts: list[tuple[int, int, str]] = []
        start, end = part.start, part.node.end
        if part.comma is not None:
            # Comments between the value and its comma stay.
            if self.text[end : part.comma].strip():
                cuts.append((part.comma, part.comma + 1, ""))
            else:
                end = part.comma + 1
        elif index and (comma := parts[index - 1].comma) is not None:
            cuts.append((comma, comma + 1, ""))
        cuts.append((*self._with_blanks(container, start, end, alone=len(parts) == 1), ""))
        return self._spliced(cuts)

    def render(self, value: object, where: Where) -> str:
        """`value` as JSON text for a place at `where` (which need not exist), in this style.

        Lists of plain values stay on one line.
        """
        node = self.root
        depth = 0
        for key in where:
            inner = next((part.node for part in node.parts or () if part.key == key), None)
            if inner is None:
                break
            node, depth = inner, depth + 1
        if not self._spreads(node):
            return _render(value, None, "", self.line_end)
        indent = self._indent_at(node.start) + self.unit * (len(where) - depth)
        return _render(value, self.unit, indent, self.line_end)

    @cached_property
    def line_end(self) -> str:
        """The line end of the document's first line."""
        end = self.text.find("\n")
        return "\r\n" if end > 0 and self.text[end - 1] == "\r" else "\n"

    @cached_property
    def unit(self) -> str:
        """What one level of indentation is made of; two spaces where the document has none."""
        pending = [self.root]
        while pending:
            node = pending.pop(0)
            outer = self._indent_at(node.start)
            for part in node.parts or ():
                inner = self._own_line(part.start)
                if inner is not None and len(inner) > len(outer) and inner.startswith(outer):
                    return inner[len(outer) :]
                pending.append(part.node)
        return "  "

    def _at(self, where: Where) -> Node:
        node = self.find(*where)
        if node is None:
            raise LookupError(where)
        return node

    def _parts(self, where: Where, kind: type) -> tuple[Part, ...]:
        node = self._at(where)
        if not isinstance(node.value, kind):
            raise LookupError(where)
        return node.parts or ()

    def _spreads(self, node: Node) -> bool:
        """Whether what is added to `node` goes on lines of its own."""
        if not node.parts:
            return "\n" in self.text or node is self.root
        return any(self._own_line(part.start) is not None for part in node.parts)

    def _insert(self, where: Where, index: int, new: str) -> "Text":
        container = self._at(where)
        parts = container.parts or ()
        spreads = self._spreads(container)
        before = parts[index - 1] if index else None
        splices: list[tuple[int, int, str]] = []
        if before is None:
            at = container.start + 1
        elif before.comma is None:
            splices.append((before.node.end, before.node.end, ","))
            at = before.node.end
        else:
            at = before.comma + 1
        trailing = bool(parts) and parts[-1].comma is not None
        comma = "," if index < len(parts) or trailing else ""
        if not spreads:
            blank = " " if before is not None or comma == "" else ""
            if before is None and not parts:
                blank = ""
            tail = " " if index == 0 and parts and self.text[at] not in " \t" else ""
            splices.append((at, at, blank + new + comma + tail))
            return self._spliced(splices)
        at = self._line_gap_end(at, container.end - 1)
        outer = self._indent_at(container.start)
        indents = [self._own_line(part.start) for part in ([before] if before else [*parts[:1]])]
        indent = indents[0] if indents and indents[0] is not None else outer + self.unit
        text = self.line_end + indent + new + comma
        behind = self.text[at : container.end - 1]
        if not behind.strip(" \t\r\n"):
            # Nothing but the closing bracket follows, which keeps its own line if it has one.
            if "\n" not in behind:
                splices.append((at, container.end - 1, text + self.line_end + outer))
            else:
                splices.append((at, at, text))
        elif not re.match(r"[ \t]*\r?\n", behind):
            splices.append((at, at, text + self.line_end + indent))
        else:
            splices.append((at, at, text))
        return self._spliced(splices)

    def _line_gap_end(self, at: int, limit: int) -> int:
        """The end of the comments that follow on the line of `at`."""
        found = _LINE_GAP.match(self.text, at, limit)
        end = found.end() if found is not None else at
        rest = self.text[end:limit]
        # A comment that reaches over the line's end, or a next part on this line: not ours.
        if rest and not re.match(r"\r?\n|\Z", rest):
            return at
        return at + len(self.text[at:end].rstrip(" \t"))

    def _with_blanks(
        self, container: Node, start: int, end: int, *, alone: bool
    ) -> tuple[int, int]:
        """What to cut for a part that goes: with its whole lines where nothing else is on them."""
        text = self.text
        if (
            alone
            and not text[container.start + 1 : start].strip()
            and (not text[end : container.end - 1].strip())
        ):
            return container.start + 1, container.end - 1
        line_start = start - len(text[:start]) + len(text[:start].rstrip(" \t")) if start else start
        behind = _INDENT.match(text, end)
        after = behind.end() if behind is not None else end
        starts_line = line_start == 0 or text[line_start - 1] == "\n"
        ends_line = text.startswith(("\n", "\r\n"), after)
        if starts_line and ends_line:
            return line_start, after + (2 if text[after] == "\r" else 1)
        if ends_line or text[after : after + 1] in ("}", "]"):
            # The bracket keeps the blank before it, if it had one.
            return line_start, end if not ends_line else after
        return start, after

    def _own_line(self, at: int) -> str | None:
        """The indentation before `at` if it is the first thing on its line."""
        before = self.text[self.text.rfind("\n", 0, at) + 1 : at]
        return before if "\n" in self.text[:at] and not before.strip(" \t") else None

    def _indent_at(self, at: int) -> str:
        """The indentation of the line on which `at` is."""
        start = self.text.rfind("\n", 0, at) + 1
        if start == 0 and self.text.startswith("\ufeff"):
            start = 1
        found = _INDENT.match(self.text, start, at)
        return found[0] if found is not None else ""

    def _spliced(self, splices: Sequence[tuple[int, int, str]]) -> "Text":
        pieces = []
        at = 0
        for start, end, new in sorted(splices, key=lambda splice: splice[:2]):
            pieces += [self.text[at:start], new]
            at = end
        return Text("".join([*pieces, self.text[at:]]), path=self.path)


def parse(data: bytes, *, path: str) -> Text:
    """The document in `data`; raises DocumentError, which names the line and the column."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DocumentError("Is not UTF-8 here; save it as UTF-8.", path=path, line=line) from None
    return Text(text, path=path)


def _render(value: object, unit: str | None, indent: str, line_end: str) -> str:
    if unit is None or not isinstance(value, Mapping | list | tuple) or not value:
        return json.dumps(value, ensure_ascii=False)
    inner = indent + unit
    if isinstance(value, Mapping):
        rendered = [
            f"{json.dumps(key, ensure_ascii=False)}: {_render(each, unit, inner, line_end)}"
            for key, each in value.items()
        ]
        opening, closing = "{}"
    else:
        if not any(isinstance(each, Mapping | list | tuple) for each in value):
            return json.dumps(value, ensure_ascii=False)
        rendered = [_render(each, unit, inner, line_end) for each in value]
        opening, closing = "[]"
    lines = f",{line_end}{inner}".join(rendered)
    return f"{opening}{line_end}{inner}{lines}{line_end}{indent}{closing}"
