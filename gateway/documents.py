"""YAML with the line of every value: one strict reading, the same for every file the gateway takes.

Stricter than YAML where readers disagree, because a file that two programs read differently is a
hole in a policy: a doubled key, a second document, and line breaks that only YAML 1.1 knows are
refused. Plain scalars resolve as in the YAML 1.2 core schema, so `no` and `2026-01-31` are strings.
"""

import math
import re
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_DEPTH = 64
MAX_NODES = 100_000


class DocumentError(UserError):
    """A file that is not YAML, or is YAML that two readers could take differently."""


class YamlSyntaxError(DocumentError):
    """Not YAML at all, where another reader may guess what was meant."""


class Document(msgspec.Struct, frozen=True):
    """A YAML document: its value, and where each part of it stands.

    Mapping keys are strings as written (`8080: x` has the key "8080"), so an int in a path is
    always the index of a list item.
    """

    path: str
    value: object
    lines: dict[tuple[str | int, ...], int]
    """1-based line of every mapping key and list item; () is the root."""
    indirect: frozenset[tuple[str | int, ...]] = frozenset()
    """Paths whose key or value has an anchor or a tag, is an alias, or came by a merge key."""

    def line(self, *where: str | int) -> int:
        """The line of `where`, or of the nearest part around it that has one."""
        while where not in self.lines:
            where = where[:-1]
        return self.lines[where]

    def is_indirect(self, *where: str | int) -> bool:
        """Whether `where`, or anything inside it, is written other than as a plain literal."""
        return any(path[: len(where)] == where for path in self.indirect)


def read_yaml(text: str, *, path: str, first_line: int = 1) -> Document:
    """Read one YAML document; an empty one has the value None.

    `first_line` is the line of the file on which `text` begins. Raises DocumentError, which names
    the path and the line, and nothing else.
    """
    text = text.removeprefix("\ufeff")
    _check_characters(text, path, first_line)
    root = _Composer(path, first_line).compose(text)
    builder = _Builder(path)
    value = None if root is None else builder.build(root, ())
    builder.lines[()] = first_line if root is None else root.line
    return Document(path, value, builder.lines, frozenset(builder.indirect))


# A lone CR, NEL, LS and PS end a line for YAML 1.1 (libyaml) and not for YAML 1.2: text behind them
# would be a comment to one reader and a key to the other.
_AMBIGUOUS_BREAK = re.compile("\r(?!\n)|[\x85\u2028\u2029]")
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


def _check_characters(text: str, path: str, first_line: int) -> None:
    for pattern, problem in (
        (_AMBIGUOUS_BREAK, "is a line break to some readers only; use plain line ends"),
        (_FORBIDDEN, "may not appear in a YAML file; remove it"),
    ):
        found = pattern.search(text)
        if found is not None:
            line = first_line + text.count("\n", 0, found.start())
            raise DocumentError(
                f"The character U+{ord(found.group()):04X} {problem}.", path=path, line=line
            )


class _Node(msgspec.Struct, frozen=True):
    line: int
    tag: str | None
    indirect: bool  # written with an anchor, an alias or a tag
    plain: bool = False  # a scalar without quotes
    text: str = ""
    items: "list[_Node] | None" = None
    pairs: "list[tuple[_Node, _Node]] | None" = None


class _Composer:
    """Turns the parser's events into nodes, resolving aliases on the way."""

    def __init__(self, path: str, first_line: int) -> None:
        self.path = path
        self.first_line = first_line
        self.anchors: dict[str, _Node] = {}

    def compose(self, text: str) -> _Node | None:
        # Imported here: a start from a compiled snapshot needs this module's types, not the parser.
        import yaml

        root: _Node | None = None
        events: Iterator[Any] = yaml.parse(
            text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        )
        try:
            for event in events:
                if isinstance(event, yaml.NodeEvent):
                    if root is not None:
                        raise self.error("A second YAML document begins here; keep one.", event)
                    root = self.node(event, events, 0)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            problem = error.problem or error.context or "it cannot be parsed"
            raise YamlSyntaxError(
                f"Not valid YAML: {problem}; {_remedy(problem)}.",
                path=self.path,
                line=self.first_line + (mark.line if mark is not None else 0),
            ) from None
        except (yaml.YAMLError, ValueError):
            raise DocumentError(
                "Not valid YAML: it holds a character that YAML does not allow; remove it.",
                path=self.path,
                line=self.first_line,
            ) from None
        return root

    def node(self, event: Any, events: "Iterator[Any]", depth: int) -> _Node:
        import yaml

        if depth > MAX_DEPTH:
            raise self.error(f"Nested deeper than {MAX_DEPTH} levels; flatten it.", event)
        line = self.first_line + event.start_mark.line
        anchor: str | None = event.anchor
        if isinstance(event, yaml.AliasEvent):
            target = self.anchors.get(anchor or "")
            if target is None:
                raise YamlSyntaxError(
                    f"The alias {_shown(f'*{anchor}')} has no complete anchor before it; "
                    "quote the value if a text was meant.",
                    path=self.path,
                    line=line,
                )
            return msgspec.structs.replace(target, line=line, indirect=True)
        indirect = bool(anchor or event.tag)
        if isinstance(event, yaml.ScalarEvent):
            plain = event.implicit[0] and not event.tag
            node = _Node(line, event.tag, indirect, plain=plain, text=event.value)
        elif isinstance(event, yaml.SequenceStartEvent):
            items: list[_Node] = []
            while not isinstance(inner := next(events), yaml.SequenceEndEvent):
                items.append(self.node(inner, events, depth + 1))
            node = _Node(line, event.tag, indirect, items=items)
        elif isinstance(event, yaml.MappingStartEvent):
            pairs: list[tuple[_Node, _Node]] = []
            while not isinstance(inner := next(events), yaml.MappingEndEvent):
                key = self.node(inner, events, depth + 1)
                pairs.append((key, self.node(next(events), events, depth + 1)))
            node = _Node(line, event.tag, indirect, pairs=pairs)
        else:
            raise self.error("Not valid YAML: a value was expected here.", event)
        if anchor:
            # Registered when complete, so that an alias can never lead back into itself.
            self.anchors[anchor] = node
        return node

    def error(self, message: str, event: Any) -> DocumentError:
        line = self.first_line + event.start_mark.line
        return DocumentError(message, path=self.path, line=line)


class _Builder:
    """Turns nodes into plain values and notes where each one stands."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.lines: dict[tuple[str | int, ...], int] = {}
        self.indirect: set[tuple[str | int, ...]] = set()
        self.nodes = 0

    def build(self, node: _Node, where: tuple[str | int, ...]) -> object:
        self.count(node, len(where))
        if node.indirect:
            self.indirect.add(where)
        if node.items is not None:
            self.expect_tag(node, "seq")
            items: list[object] = []
            for index, item in enumerate(node.items):
                self.lines[*where, index] = item.line
                items.append(self.build(item, (*where, index)))
            return items
        if node.pairs is not None:
            self.expect_tag(node, "map")
            members: dict[str, object] = {}
            for name, (key, value, merged) in self.members(node, 0).items():
                inner = (*where, name)
                self.lines[inner] = key.line
                if merged or key.indirect:
                    self.indirect.add(inner)
                members[name] = self.build(value, inner)
            return members
        return self.scalar(node)

    def members(self, node: _Node, depth: int) -> dict[str, tuple[_Node, _Node, bool]]:
        """Key, value and whether it was merged, by name; a mapping's own keys win."""
        self.count(node, depth)
        members: dict[str, tuple[_Node, _Node, bool]] = {}
        merge: _Node | None = None
        for key, value in node.pairs or ():
            if key.items is not None or key.pairs is not None:
                raise self.error("A key is a list or a mapping; use a text.", key)
            is_merge = key.plain and key.text == "<<"
            if key.text in members or (is_merge and merge is not None):
                raise self.error(f"The key {_shown(key.text)} is given twice; keep one.", key)
            if is_merge:
                merge = value
            else:
                members[key.text] = (key, value, False)
        if merge is not None:
            for source in merge.items if merge.items is not None else [merge]:
                if source.pairs is None:
                    raise self.error("A merge key (<<) takes a mapping or a list of them.", merge)
                for name, (key, value, _) in self.members(source, depth + 1).items():
                    members.setdefault(name, (key, value, True))
        return members

    def scalar(self, node: _Node) -> object:
        if node.plain:
            return self.resolve(node)
        if node.tag in _TEXT_TAGS:
            return node.text
        value = self.resolve(node)
        if node.tag != _CORE_TAG + _TYPE_NAMES[type(value)]:
            raise self.error(f"The tag {_shown(node.tag or '')} is not supported; drop it.", node)
        return value

    def resolve(self, node: _Node) -> object:
        """A plain scalar's value by the YAML 1.2 core schema."""
        text = node.text
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if _INT.fullmatch(text) or _FLOAT.fullmatch(text):
            if len(text) > _MAX_DIGITS:
                raise self.error("A number of that length is not supported; quote it.", node)
            if text.startswith(("0x", "0o")):
                return int(text, 0)
            return int(text) if _INT.fullmatch(text) else float(text)
        return text

    def expect_tag(self, node: _Node, name: str) -> None:
        if node.tag not in (None, "!", _CORE_TAG + name):
            raise self.error(f"The tag {_shown(node.tag or '')} is not supported; drop it.", node)

    def count(self, node: _Node, depth: int) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise self.error(f"More than {MAX_NODES} values; use fewer aliases.", node)
        if depth > MAX_DEPTH:
            raise self.error(f"Nested deeper than {MAX_DEPTH} levels; flatten it.", node)

    def error(self, message: str, node: _Node) -> DocumentError:
        return DocumentError(message, path=self.path, line=node.line)


_CORE_TAG = "tag:yaml.org,2002:"
_TEXT_TAGS = (None, "!", _CORE_TAG + "str")
_TYPE_NAMES = {str: "str", int: "int", float: "float", bool: "bool", type(None): "null"}
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_MAX_DIGITS = 1000
_CONSTANTS: dict[str, bool | float | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
}


def _shown(text: str) -> str:
    """A key or tag from the file, short and printable."""
    return ascii(text if len(text) <= 60 else text[:57] + "...")


def _remedy(problem: str) -> str:
    if "mapping values" in problem:
        return "quote the text that contains ': '"
    if "tab" in problem or "\\t" in problem:
        return "indent with spaces"
    if "cannot start any token" in problem or "alphabetic or numeric" in problem:
        return "quote the text that begins with a special character"
    return "check quotes, brackets and indentation here"
