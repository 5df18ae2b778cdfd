"""The catalog of one upstream: which tools it offers now, and which of them are withheld."""

import hashlib
from collections.abc import Iterable, Mapping
from functools import cached_property

import msgspec

from gateway.catalog.names import normalise, tool_id, unfit

_encode = msgspec.json.Encoder(order="deterministic").encode
TEXT_MEMBERS = frozenset(("title", "description", "icons", "_meta"))
"""What a definition says about its tool, which some servers build anew from live documents."""


class ToolEntry(msgspec.Struct, frozen=True, dict=True):
    """One tool as its upstream defines it; `definition` is the upstream's own object.

    `spelling` is its name as clients spell it.

    The digests are SHA-256 in hex, made when they are first wanted: a listing has thousands of
    tools, of which few are called.
    """

    name: str
    spelling: str
    tool_id: str
    definition: dict[str, object]

    @cached_property
    def definition_digest(self) -> str:
        """Covers what a call may carry and claims about its effects, and every unknown member."""
        return digest_of({k: v for k, v in self.definition.items() if k not in TEXT_MEMBERS})

    @cached_property
    def text_digest(self) -> str:
        """Covers what the definition says about the tool (`TEXT_MEMBERS`)."""
        return digest_of({k: v for k, v in self.definition.items() if k in TEXT_MEMBERS})

    @cached_property
    def digest(self) -> str:
        """Covers the two together: the definition as a whole."""
        both = f"{self.definition_digest}{self.text_digest}"
        return hashlib.sha256(both.encode()).hexdigest()


class UpstreamCatalog(msgspec.Struct, frozen=True):
    """What one upstream offers. `withheld` maps a raw name to the reason it is not offered on."""

    upstream: str
    tools: Mapping[str, ToolEntry]
    withheld: Mapping[str, str]


def digest_of(value: object) -> str:
    """SHA-256 in hex over the one way to write `value` as JSON: keys sorted, nothing between."""
    return hashlib.sha256(_encode(value)).hexdigest()


def build_catalog(upstream: str, definitions: Iterable[object]) -> UpstreamCatalog:
    """Read a complete tools/list; entries that cannot be named without doubt are withheld.

    Withheld are unfit names, names that stand twice, names that the client would spell alike, and
    definitions that are nested too deeply to be written.
    """
    tools: dict[str, ToolEntry] = {}
    withheld: dict[str, str] = {}
    by_spelling: dict[str, str] = {}
    prefix = tool_id(upstream, "")
    for definition in definitions:
        if not isinstance(definition, dict) or not isinstance(definition.get("name"), str):
            continue
        name: str = definition["name"]
        reason = unfit(name)
        if reason is not None:
            withheld[name] = reason
            continue
        spelling = normalise(name)
        other = by_spelling.setdefault(spelling, name)
        if name in withheld:
            continue
        if name in tools:
            del tools[name]
            withheld[name] = "the upstream lists the name twice"
            continue
        if other != name:
            tools.pop(other, None)
            for clashing in (name, other):
                withheld[clashing] = f"clients spell {other!r} and {name!r} alike, as {spelling!r}"
            continue
        try:
            msgspec.json.encode(definition)
        except RecursionError:
            withheld[name] = "its definition is nested too deeply"
            continue
        tools[name] = ToolEntry(name, spelling, prefix + spelling, definition)
    return UpstreamCatalog(upstream, tools, withheld)
