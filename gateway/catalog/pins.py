"""Pins: what tools were when a person last looked at them, and what has changed since (pure).

A definition is pinned in two parts. What a call may carry and what the tool claims about itself
(schemas, annotations, unknown members) withholds the tool when it changes; what is said about it
(title, description, icons, `_meta`) is reported, and withholds it where the operator says so.
"""

from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec

from gateway.catalog.listing import ToolEntry, UpstreamCatalog, digest_of

OnText = Literal["report", "withhold"]
Wildcards = Literal["open", "pinned"]
Part = Literal["definition", "text", "instructions"]

REVIEW = "a person looks at it with `gateway pin --review`"


class ToolPin(msgspec.Struct, frozen=True):
    """The two digests of a tool, and the line of the lock on which they stand."""

    definition: str
    text: str
    line: int


class UpstreamPins(msgspec.Struct, frozen=True):
    """What is pinned of one upstream: tools by tool id, and the digest of its instructions.

    `instructions` "" pins none.
    """

    tools: Mapping[str, ToolPin] = {}
    instructions: str = ""


_NO_PINS = UpstreamPins()


class Objection(msgspec.Struct, frozen=True):
    """Why a tool is withheld, and the line of the lock that says so; 0 where none does."""

    reason: str
    line: int


class Pins(msgspec.Struct, frozen=True):
    """Everything that is pinned, and what follows from a change.

    `path` is the lock as it is shown. `text`: what happens to a tool of which only the text
    changed. `wildcards` "pinned": a tool that nobody names, and that is reached by an entry for a
    whole server alone, is withheld while it is not pinned.
    """

    path: str
    upstreams: Mapping[str, UpstreamPins] = {}
    text: OnText = "report"
    wildcards: Wildcards = "open"

    def objection(self, upstream: str, entry: ToolEntry, *, named: bool) -> Objection | None:
        """Why the tool is withheld, None where it is not. `named`: an entry names it by itself."""
        pin = self.upstreams.get(upstream, _NO_PINS).tools.get(entry.tool_id)
        if pin is None:
            if named or self.wildcards == "open":
                return None
            return Objection(
                "it is not pinned, and only an entry for the whole server reaches it "
                f"(pins.wildcards: pinned); {REVIEW}",
                0,
            )
        if pin.definition != entry.definition_digest:
            return Objection(f"its definition changed since it was pinned; {REVIEW}", pin.line)
        if self.text == "withhold" and pin.text != entry.text_digest:
            return Objection(f"its description changed since it was pinned; {REVIEW}", pin.line)
        return None

    def withholds_instructions(self, upstream: str, instructions: object) -> bool:
        """Whether what an upstream says of itself is kept from clients: it is not as pinned."""
        pinned = self.upstreams.get(upstream, _NO_PINS).instructions
        return self.text == "withhold" and bool(pinned) and pinned != digest_of(instructions)


class Drift(msgspec.Struct, frozen=True):
    """One part of what an upstream offers that is not as pinned; `tool` "" is the upstream's."""

    upstream: str
    tool: str
    part: Part
    pinned: str
    now: str
    withheld: bool
    line: int


def drift(pins: Pins, catalog: UpstreamCatalog, instructions: object = None) -> tuple[Drift, ...]:
    """What an upstream offers otherwise than it is pinned; `instructions` None is not known."""
    return tuple(_drift(pins, catalog, instructions))


def _drift(pins: Pins, catalog: UpstreamCatalog, instructions: object) -> Iterator[Drift]:
    pinned = pins.upstreams.get(catalog.upstream, _NO_PINS)
    keeps = pins.text == "withhold"
    for entry in catalog.tools.values() if pinned.tools else ():
        pin = pinned.tools.get(entry.tool_id)
        if pin is None:
            continue
        tool = (catalog.upstream, entry.tool_id)
        if pin.definition != entry.definition_digest:
            now = entry.definition_digest
            yield Drift(*tool, "definition", pin.definition, now, True, pin.line)
        if pin.text != entry.text_digest:
            yield Drift(*tool, "text", pin.text, entry.text_digest, keeps, pin.line)
    if pinned.instructions and instructions is not None:
        now = digest_of(instructions)
        if pinned.instructions != now:
            was = pinned.instructions
            yield Drift(catalog.upstream, "", "instructions", was, now, keeps, 0)


class PinChange(msgspec.Struct, frozen=True):
    """A pin that is new, gone or another one; `tool` "" is the upstream's instructions."""

    sign: Literal["+", "-", "~"]
    upstream: str
    tool: str


def compare_pins(before: Pins | None, after: Pins | None) -> tuple[PinChange, ...]:
    """Which pins differ, wherever they stand."""
    changes: list[PinChange] = []
    one, other = _table(before), _table(after)
    for key in sorted({*one, *other}):
        was, now = one.get(key), other.get(key)
        if was != now:
            changes.append(PinChange("+" if was is None else "-" if now is None else "~", *key))
    return tuple(changes)


def same_pins(one: Pins | None, other: Pins | None) -> bool:
    """Whether two of them withhold the same."""
    return rules_of(one) == rules_of(other) and not compare_pins(one, other)


def is_looser(pins: Pins | None, before: Pins) -> bool:
    """Whether something could be withheld by `before` that is not by `pins`."""
    text, wildcards = rules_of(pins)
    if (before.text, text) == ("withhold", "report"):
        return True
    if (before.wildcards, wildcards) == ("pinned", "open"):
        return True
    changes = compare_pins(before, pins)
    new = before.wildcards == "pinned" and any(change.tool for change in changes)
    return new or any(change.sign != "+" for change in changes)


def rules_of(pins: Pins | None) -> tuple[OnText, Wildcards]:
    """What follows from a change."""
    return ("report", "open") if pins is None else (pins.text, pins.wildcards)


def _table(pins: Pins | None) -> dict[tuple[str, str], tuple[str, str]]:
    table = {}
    for upstream, pinned in (pins.upstreams if pins is not None else {}).items():
        for tool, pin in pinned.tools.items():
            table[upstream, tool] = (pin.definition, pin.text)
        if pinned.instructions:
            table[upstream, ""] = (pinned.instructions, "")
    return table


class MemberChange(msgspec.Struct, frozen=True):
    """A member of a definition that appeared (`+`), disappeared (`-`) or changed (`~`).

    `path` leads to it, as in `inputSchema.properties.query.type`.
    """

    sign: Literal["+", "-", "~"]
    path: tuple[str, ...]
    before: object = None
    after: object = None


def compare_definitions(before: object, after: object) -> tuple[MemberChange, ...]:
    """What differs between two values of JSON, member by member; lists are compared whole."""
    return tuple(_compare((), before, after))


def _compare(path: tuple[str, ...], before: object, after: object) -> Iterator[MemberChange]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after}):
            where = (*path, key)
            if key not in after:
                yield MemberChange("-", where, before=before[key])
            elif key not in before:
                yield MemberChange("+", where, after=after[key])
            else:
                yield from _compare(where, before[key], after[key])
    elif digest_of(before) != digest_of(after):  # 1, 1.0 and True are not one value here
        yield MemberChange("~", path, before, after)
