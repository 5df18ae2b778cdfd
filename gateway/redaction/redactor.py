"""Takes secrets out of texts and JSON values, and counts them by kind."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Final

from gateway.redaction.assignments import MARKER, assignments, could_be_assigned
from gateway.redaction.chunks import CHUNK_CHARS, chunks
from gateway.redaction.formats import COMPANIONS, FORMATS
from gateway.redaction.names import MARKER_BEGIN, secret_name

MIN_SECRET_CHARS: Final = 8
"""Shorter texts are looked at only where their name says that they are secrets."""
MAX_DEPTH: Final = 200
"""What is nested deeper is taken out whole."""

_NAMING: Final = ("name", "key", "header", "field", "variable")
_VALUING: Final = ("value", "val", "values", "content")
_SCHEMA_TYPES: Final = ("string", "number", "integer", "boolean", "array", "object", "null")
_DOTTED: Final = re.compile(r"(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{8,}+(?:\.[A-Za-z0-9_-]*+){1,4}+")
_EDGE: Final = re.compile(r"-----(BEGIN|END) (?:[A-Z0-9]{1,16} ){0,4}PRIVATE KEY(?: BLOCK)?-----")
_KEY_TEXT: Final = re.compile(r"[A-Za-z0-9+/=\s\\:,.\-]*+")
_MARKERS: Final = re.compile(f"(?:{MARKER})+")
_DISCORD: Final = next(form for form in FORMATS if form.kind == "discord-token")
_LITERALS: Final = (
    "eyJ",
    "PRIVATE KEY",
    *(literal for form in FORMATS if form is not _DISCORD for literal in form.literals),
    *(literal for companion in COMPANIONS for literal in companion.literals),
)


def redact_text(text: str) -> str:
    """`text` with every secret that is recognised replaced by `[redacted: KIND]`."""
    return Redactor().text(text)


def redact_value(value: object) -> object:
    """A JSON value with the secrets in it replaced."""
    return Redactor().value(value)


def could_hold_secret(encoded: str) -> bool:
    """Whether the JSON text `encoded` may hold a secret: False is sure, and quickly found out."""
    return (
        any(literal in encoded for literal in _LITERALS)
        or could_be_assigned(encoded)
        or _compiled(_DISCORD.pattern).search(encoded) is not None
    )


class Redactor:
    """Redacts, and counts by kind what it took out. Redacting twice is as once.

    `keep_types`: a number that is a secret becomes 0, not a text that says so.
    """

    def __init__(self, *, keep_types: bool = False) -> None:
        self.counts: Counter[str] = Counter()
        self._keep_types = keep_types
        self._beside: dict[str, str] = {}

    def text(self, text: str) -> str:
        """`text` without what is recognised as a secret."""
        if len(text) < MIN_SECRET_CHARS:
            return text
        if "PRIVATE KEY" in text:
            text = self._without_keys(text)
        if len(text) <= CHUNK_CHARS:
            return self._short(text)
        return "".join([self._short(chunk) for chunk in chunks(text)])

    def _short(self, text: str) -> str:
        self.notice(text)
        for form in FORMATS:
            for literal in form.literals:
                if literal in text:
                    text = self._without(form.kind, form.pattern, text)
                    break
        for kind, pattern in self._beside.items():
            text = self._without(kind, pattern, text)
        if "eyJ" in text:
            text = _DOTTED.sub(self._signed_token, text)
        return self._without_assigned(text)

    def notice(self, text: str) -> None:
        """Look for what makes other texts telling: beside the id of a key stands the key."""
        for companion in COMPANIONS:
            if companion.kind not in self._beside:
                near = any(literal in text for literal in companion.literals)
                if near and _compiled(companion.trigger).search(text):
                    self._beside[companion.kind] = companion.pattern

    def value(self, value: object) -> object:
        """A JSON value without secrets, by their form and by the names of members."""
        known = len(self._beside)
        redacted = self._value(value, None, 0)
        if len(self._beside) > known:  # what stands before may be telling now
            redacted = self._value(redacted, None, 0)
        return redacted

    def _value(self, value: object, kind: str | None, depth: int) -> object:
        if isinstance(value, str):
            return self.text(value) if kind is None else self._secret(value, kind)
        if isinstance(value, dict):
            if depth >= MAX_DEPTH:
                self.counts["too-deep"] += 1
                return {}
            return self._members(value, kind, depth + 1)
        if isinstance(value, list | tuple):
            if depth >= MAX_DEPTH:
                self.counts["too-deep"] += 1
                return []
            return self._elements(value, kind, depth + 1)
        if kind is None or value is None or isinstance(value, bool):
            return value
        if self._keep_types:
            self.counts[kind] += value != 0
            return 0
        return self._taken(kind)

    def _members(
        self, members: Mapping[object, object], kind: str | None, depth: int
    ) -> dict[object, object]:
        if kind is not None and members.get("type") in _SCHEMA_TYPES:
            kind = None  # it describes a secret, and is none
        described = None
        for naming in _NAMING:
            name = members.get(naming)
            if described is None and isinstance(name, str):
                described = secret_name(name)
        result: dict[object, object] = {}
        for key, item in members.items():
            own = kind
            if isinstance(key, str):
                own = secret_name(key) or (described if key in _VALUING else None) or kind
                key = self.text(key)
            while key in result:  # two that are alike now
                key = f"{key}'"
            result[key] = self._value(item, own, depth)
        return result

    def _elements(self, elements: Sequence[object], kind: str | None, depth: int) -> list[object]:
        result: list[object] = []
        named: str | None = None
        for position, item in enumerate(elements):
            result.append(self._value(item, kind or named, depth))
            named = None
            if isinstance(item, str):
                # ["--password", "x"], and ["X-API-Key", "x"] in a list of headers.
                option = item.startswith("-") and "=" not in item
                if option or (position == 0 and len(elements) == 2 and _is_header(item)):
                    named = secret_name(item)
        return result

    def _secret(self, text: str, kind: str) -> str:
        """A whole text that is a secret by its name."""
        if not text or _MARKERS.fullmatch(text):
            return text
        return self._taken(kind)

    def _taken(self, kind: str) -> str:
        self.counts[kind] += 1
        return f"{MARKER_BEGIN}{kind}]"

    def _without(self, kind: str, pattern: str, text: str) -> str:
        compiled = _compiled(pattern)
        if kind == "discord-token":
            return self._without_discord(compiled, text)
        group = compiled.groupindex.get("secret", 0)

        def replaced(found: re.Match[str]) -> str:
            whole, start, end = found[0], found.start(), found.end(group)
            if found[group].endswith("@"):
                end -= 1
            head, tail = whole[: found.start(group) - start], whole[end - start :]
            return f"{head}{self._taken(kind)}{tail}"

        return compiled.sub(replaced, text)

    def _signed_token(self, found: re.Match[str]) -> str:
        """A JWT: two or three parts, of which the first is JSON in base64."""
        start = found[0].find("eyJ")
        if start < 0 or found[0].find(".") < start + MIN_SECRET_CHARS:
            return found[0]
        return found[0][:start] + self._taken("jwt")

    def _without_discord(self, compiled: re.Pattern[str], text: str) -> str:
        """The first part of it stands before the dot that was looked for."""
        pieces, position = [], 0
        for found in compiled.finditer(text):
            start = found.start()
            while start > position and (text[start - 1].isalnum() or text[start - 1] in "_-"):
                start -= 1
            pieces += [text[position:start], self._taken("discord-token")]
            position = found.end()
        return "".join((*pieces, text[position:])) if pieces else text

    def _without_keys(self, text: str) -> str:
        """`text` without private keys, also those of which the beginning or the end is cut off."""
        pieces, position = [], 0
        edges = list(_EDGE.finditer(text))
        for index, edge in enumerate(edges):
            if edge.start() < position:
                continue
            start = edge.start()
            following = edges[index + 1] if index + 1 < len(edges) else None
            if edge[1] == "END":
                stop = edge.end()
                while start > position and _KEY_TEXT.fullmatch(text, start - 1, start):
                    start -= 1
            elif following is not None and following[1] == "END":
                stop = following.end()
            else:
                limit = len(text) if following is None else following.start()
                run = _KEY_TEXT.match(text, edge.end(), limit)
                stop = edge.end() if run is None else run.end()
            pieces += [text[position:start], self._taken("private-key")]
            position = stop
        return "".join((*pieces, text[position:])) if pieces else text

    def _without_assigned(self, text: str) -> str:
        pieces, position = [], 0
        for found in assignments(text):
            pieces += [text[position : found.start], self._taken(found.kind)]
            position = found.end
        return "".join((*pieces, text[position:])) if pieces else text


def _is_header(name: str) -> bool:
    return "-" in name or name.lower() in ("authorization", "cookie")


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)
