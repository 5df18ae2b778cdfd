"""The catalog of one upstream: which tools it offers now, and which of them are withheld."""

import hashlib
from collections.abc import Iterable, Mapping

import msgspec

from gateway.catalog.names import normalise, tool_id, unfit

_encode = msgspec.json.Encoder(order="deterministic").encode
_SCHEMA_MEMBERS = ("inputSchema", "outputSchema", "annotations", "execution")


class ToolEntry(msgspec.Struct, frozen=True):
    """One tool as its upstream defines it.

    `definition` is the upstream's own object. `schema_digest` covers what a call may carry and
    claims about its effects; `text_digest` covers everything else, which some servers build anew
    from live documents. Both are SHA-256, hex.
    """

    name: str
    tool_id: str
    definition: dict[str, object]
    schema_digest: str
    text_digest: str
    digest: str
    """SHA-256 of the two together: the definition as a whole."""


class UpstreamCatalog(msgspec.Struct, frozen=True):
    """What one upstream offers. `withheld` maps a raw name to the reason it is not offered on."""

    upstream: str
    tools: Mapping[str, ToolEntry]
    withheld: Mapping[str, str]


def build_catalog(upstream: str, definitions: Iterable[object]) -> UpstreamCatalog:
    """Read a complete tools/list; entries that cannot be named without doubt are withheld.

    Withheld are unfit names, names that stand twice, names that the client would spell alike, and
    definitions that are nested too deeply to be written.
    """
    tools: dict[str, ToolEntry] = {}
    withheld: dict[str, str] = {}
    by_spelling: dict[str, str] = {}
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
            tools[name] = _entry(upstream, name, definition)
        except RecursionError:
            withheld[name] = "its definition is nested too deeply"
    return UpstreamCatalog(upstream, tools, withheld)


def _entry(upstream: str, name: str, definition: dict[str, object]) -> ToolEntry:
    schema = {key: definition[key] for key in _SCHEMA_MEMBERS if key in definition}
    text = {key: value for key, value in definition.items() if key not in schema}
    schema_digest = hashlib.sha256(_encode(schema)).hexdigest()
    text_digest = hashlib.sha256(_encode(text)).hexdigest()
    return ToolEntry(
        name=name,
        tool_id=tool_id(upstream, name),
        definition=definition,
        schema_digest=schema_digest,
        text_digest=text_digest,
        digest=hashlib.sha256(f"{schema_digest}{text_digest}".encode()).hexdigest(),
    )
