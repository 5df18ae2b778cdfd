"""The lock: the file beside a configuration that says what its tools were when they were pinned.

It holds the definitions themselves beside their digests, so that a later change can be shown to a
person, on any machine and in the diffs of version control: JSON in ASCII, keys sorted, a line for
each value.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from gateway.catalog.listing import ToolEntry, digest_of
from gateway.catalog.names import normalise, tool_id
from gateway.catalog.pins import ToolPin, UpstreamPins
from gateway.config.files import MAX_LOCK_BYTES, Place
from gateway.config.mcp_json import read_json
from gateway.config.reading import read_regular
from gateway.documents import Document
from gateway.errors import UserError

VERSION = 1
_WRITTEN_BY = "Written by `gateway pin`; change it with `gateway pin --review`."
_REMEDY = "take the file from version control, or remove it and run `gateway pin`"
_DIGEST = re.compile("[0-9a-f]{64}")


class LockedTool(msgspec.Struct, frozen=True):
    """A pinned tool: its definition, the digests of its two parts, and its line in the lock."""

    definition: Mapping[str, object]
    pin: ToolPin


class LockedUpstream(msgspec.Struct, frozen=True):
    """What is pinned of one upstream: tools by tool id, and its instructions, if it gave any."""

    tools: Mapping[str, LockedTool] = {}
    instructions: str | None = None


class Lock(msgspec.Struct, frozen=True):
    """Everything that is pinned, by upstream."""

    upstreams: Mapping[str, LockedUpstream] = {}

    def pins(self) -> dict[str, UpstreamPins]:
        """The digests alone, which is what decisions are taken on."""
        return {
            name: UpstreamPins(
                {tool: locked.pin for tool, locked in upstream.tools.items()},
                "" if upstream.instructions is None else digest_of(upstream.instructions),
            )
            for name, upstream in self.upstreams.items()
        }


def locked(entry: ToolEntry) -> LockedTool:
    """A tool pinned as its upstream offers it now."""
    return LockedTool(entry.definition, ToolPin(entry.definition_digest, entry.text_digest, 0))


def lock_of(place: Place) -> Lock | None:
    """What is pinned beside a configuration, None where nothing is; raises UserError."""
    if not os.path.lexists(place.lock):
        return None
    shown = place.shown(place.lock)
    try:
        data, _ = read_regular(place.lock, MAX_LOCK_BYTES)
        return read_lock(data.decode(), path=shown)
    except (OSError, UnicodeDecodeError):
        raise UserError(f"Cannot be read as text; {_REMEDY}.", path=shown) from None


def read_lock(text: str, *, path: str) -> Lock:
    """Read a lock; raises UserError, with the line, for what `encode_lock` would not have written.

    That includes a definition that is not the one whose digests stand beside it.
    """
    document = read_json(text, path=path)
    return Lock(dict(_Reading(document).upstreams()))


def encode_lock(lock: Lock, *, path: str) -> bytes:
    """The file as it is written; raises UserError where it could not be read again."""
    whole = {
        "comment": _WRITTEN_BY,
        "upstreams": {name: _written(each) for name, each in lock.upstreams.items()},
        "version": VERSION,
    }
    try:
        text = json.dumps(whole, indent=2, sort_keys=True, ensure_ascii=True, allow_nan=False)
        data = f"{text}\n".encode()
        read_lock(data.decode(), path=path)
    except (ValueError, RecursionError, UserError) as error:
        reason = error.message if isinstance(error, UserError) else "a definition is no plain JSON"
        raise UserError(f"What the upstreams offer cannot be pinned: {reason}", path=path) from None
    if len(data) > MAX_LOCK_BYTES:
        raise UserError(
            f"The definitions of all tools have more than {MAX_LOCK_BYTES} bytes together; let "
            "agents reach fewer tools.",
            path=path,
        )
    return data


def write_lock(path: Path, data: bytes) -> None:
    """Put the lock in place as a whole; raises UserError."""
    beside = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
                file.write(data)
            beside.replace(path)
        except OSError:
            beside.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UserError(f"Cannot be written: {error.strerror}.", path=str(path)) from None


def _written(upstream: LockedUpstream) -> dict[str, object]:
    value: dict[str, object] = {
        "tools": {
            tool: {
                "definition": locked.pin.definition,
                "pinned": locked.definition,
                "text": locked.pin.text,
            }
            for tool, locked in upstream.tools.items()
        }
    }
    if upstream.instructions is not None:
        value["instructions"] = upstream.instructions
    return value


class _Reading:
    """One lock, checked member by member."""

    def __init__(self, document: Document) -> None:
        self.document = document

    def upstreams(self) -> Iterator[tuple[str, LockedUpstream]]:
        whole = self.mapping(self.document.value, (), {"comment", "upstreams", "version"})
        version = whole.get("version")
        if type(version) is not int or version != VERSION:
            raise self.problem(f"version is not {VERSION}", "version")
        upstreams = self.mapping(whole.get("upstreams"), ("upstreams",))
        for name, value in upstreams.items():
            where = ("upstreams", name)
            members = self.mapping(value, where, {"instructions", "tools"})
            instructions = members.get("instructions")
            if instructions is not None and not isinstance(instructions, str):
                raise self.problem("instructions is no text", *where, "instructions")
            tools = self.mapping(members.get("tools"), (*where, "tools"))
            yield (
                name,
                LockedUpstream(
                    {tool: self.tool(name, tool, each) for tool, each in tools.items()},
                    instructions,
                ),
            )

    def tool(self, upstream: str, tool: str, value: object) -> LockedTool:
        where = ("upstreams", upstream, "tools", tool)
        members = self.mapping(value, where, {"definition", "pinned", "text"})
        pinned = self.mapping(members.get("pinned"), (*where, "pinned"))
        for key in ("definition", "text"):
            digest = members.get(key)
            if not isinstance(digest, str) or _DIGEST.fullmatch(digest) is None:
                raise self.problem(f"{key} is no digest", *where, key)
        name = pinned.get("name")
        if not isinstance(name, str) or tool_id(upstream, name) != tool:
            raise self.problem(f"the definition is not that of {tool}", *where, "pinned", "name")
        entry = ToolEntry(name, normalise(name), tool, pinned)
        found = ToolPin(entry.definition_digest, entry.text_digest, self.document.line(*where))
        if (members["definition"], members["text"]) != (found.definition, found.text):
            raise self.problem(f"the digests of {tool} are not those of its definition", *where)
        return LockedTool(pinned, found)

    def mapping(
        self, value: object, where: tuple[str, ...], known: set[str] | None = None
    ) -> dict[str, object]:
        if not isinstance(value, dict):
            raise self.problem(f"{where[-1] if where else 'the file'} is no mapping", *where)
        for key in value:
            if known is not None and key not in known:
                raise self.problem(f"{key[:60]!a} is no known key", *where, key)
        return value

    def problem(self, what: str, *where: str) -> UserError:
        return UserError(
            f"This is no lock of `gateway pin`: {what}; {_REMEDY}.",
            path=self.document.path,
            line=self.document.line(*where),
        )
