"""What a record keeps of a call's arguments: nothing, their shape, harmless values, or all."""

from collections.abc import Sequence
from itertools import islice
from typing import Final, Literal, TypeAlias

from gateway.audit.keys import Digester

ArgumentsLevel: TypeAlias = Literal["none", "shape", "redacted", "full"]

_Container: TypeAlias = tuple[dict[str, object] | Sequence[object], dict[str, object]]
"""A value that has others inside, and what is said of it."""

MAX_DEPTH: Final = 6
MAX_NODES: Final = 128  # values described in one summary, the outer ones first
MAX_ELEMENTS: Final = 8  # of one array
MAX_KEY_CHARS: Final = 128
LONG_KEY_CHARS: Final = 20  # in shorter keys no secret is looked for
MAX_EXAMINED_KEY_CHARS: Final = 1024
MAX_TEXT_BYTES: Final = 64 * 1024  # of the values that level "full" keeps


def summarise_arguments(
    level: ArgumentsLevel, arguments: object, encoded: bytes, digester: Digester
) -> dict[str, object]:
    """The `arguments` field of a decision record.

    `arguments` is the decoded value and `encoded` its JSON text as it is forwarded. Level "none"
    keeps the level alone. "shape" keeps `size_bytes`, a keyed `digest` of the whole text, and the
    `shape`: types, keys, sizes of strings in bytes, `count` of members or elements. Keys come from
    the caller, so a member is `{"key": ..., "type": ...}` in a list. What is left out for depth or
    number shows as a `count` above the entries listed. "full" adds the `text` itself, marked
    `text_cut` when it is longer than MAX_TEXT_BYTES. "redacted" adds a `text` without the secrets
    in it, whose number is `redacted`, and with long values cut: see `gateway.audit.redacted`.
    """
    if level == "none":
        return {"level": level}
    summary: dict[str, object] = {
        "level": level,
        "size_bytes": len(encoded),
        "digest": digester.digest(encoded),
        "shape": _shape(arguments),
    }
    if level == "redacted":
        from gateway.audit.redacted import redacted_text  # most gateways keep no values

        summary |= redacted_text(arguments, encoded)
    elif level == "full":
        summary["text"] = encoded[:MAX_TEXT_BYTES].decode("utf-8", "replace")
        if len(encoded) > MAX_TEXT_BYTES:
            summary["text_cut"] = True
    return summary


def _shape(arguments: object) -> dict[str, object]:
    # Breadth first, so that one deep or wide member does not use up the room of its siblings.
    # Only what holds others waits for its turn.
    root: dict[str, object] = {}
    waiting: list[_Container] = []
    _describe(arguments, root, waiting)
    room, depth = MAX_NODES, 0
    while waiting and depth < MAX_DEPTH:
        level, waiting = waiting, []
        for value, node in level:
            if not room:
                return root
            inside: list[dict[str, object]] = []
            if isinstance(value, dict):
                node["members"] = inside
                for key, item in islice(value.items(), room):
                    if len(key) >= LONG_KEY_CHARS:
                        key = _harmless(key)
                    member: dict[str, object] = {"key": key}
                    if len(key) > MAX_KEY_CHARS:
                        member = {"key": key[:MAX_KEY_CHARS], "key_cut": True}
                    _describe(item, member, waiting)
                    inside.append(member)
            else:
                node["elements"] = inside
                for item in value[: min(room, MAX_ELEMENTS)]:
                    element: dict[str, object] = {}
                    _describe(item, element, waiting)
                    inside.append(element)
            room -= len(inside)
        depth += 1
    return root


def _harmless(key: str) -> str:
    """A key without secrets: it comes from the caller, as values do."""
    from gateway.redaction.redactor import redact_text  # few keys are so long

    return redact_text(key[:MAX_EXAMINED_KEY_CHARS])


def _describe(value: object, node: dict[str, object], waiting: list[_Container]) -> None:
    """Put into `node` what is said of `value`, and into `waiting` what it has inside."""
    scalar = _SCALARS.get(type(value))
    if scalar is not None:
        node["type"] = scalar
    elif isinstance(value, str):
        node["type"] = "string"
        node["size_bytes"] = (
            len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
        )
    elif isinstance(value, dict | list | tuple):
        node["type"] = "object" if isinstance(value, dict) else "array"
        node["count"] = len(value)
        if value:
            waiting.append((value, node))
    else:
        node["type"] = "other"


_SCALARS: Final[dict[type, str]] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    type(None): "null",
}
