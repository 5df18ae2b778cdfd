"""Arguments as level "redacted" keeps them: their values, without secrets and cut at a size."""

from itertools import islice
from typing import Final

import msgspec

from gateway.audit.records import TEXT_CHARS, capped
from gateway.catalog.names import tool_id
from gateway.redaction.redactor import Redactor, could_hold_secret, redact_text

MAX_REDACTED_BYTES: Final = 16 * 1024
"""Of the whole text."""
MAX_VALUE_CHARS: Final = 1024
"""Of one text in it."""

_EXAMINED_CHARS: Final = 4 * 1024
"""Of one text this much is searched, so that what is shown ends before a secret that is cut."""
_EXAMINED_IN_ALL: Final = 64 * 1024
_MAX_ITEMS: Final = 500  # of one object or list
_encode = msgspec.json.encode


def redacted_text(arguments: object, encoded: bytes) -> dict[str, object]:
    """What the summary of arguments says besides: `text`, `text_cut`, and how many are `redacted`.

    Where anything was cut, what is left need not be JSON.
    """
    beginning = encoded[:_EXAMINED_IN_ALL].decode("utf-8", "replace")
    if len(encoded) <= MAX_VALUE_CHARS and not could_hold_secret(beginning):
        return {"text": beginning}
    shortening = _Shortening()
    shortening.notice(beginning)
    data = _encode(shortening.value(arguments))
    said: dict[str, object] = {"text": data[:MAX_REDACTED_BYTES].decode("utf-8", "replace")}
    if shortening.cut or len(data) > MAX_REDACTED_BYTES:
        said["text_cut"] = True
    if shortening.counts:
        said["redacted"] = shortening.counts.total()
    return said


def without_secrets(text: str) -> str:
    """A text of a record that comes from outside. A long one is cut as records cut it."""
    if len(text) <= _EXAMINED_CHARS:
        return redact_text(text)
    end = capped(text)[TEXT_CHARS:]
    return redact_text(text[:_EXAMINED_CHARS])[: TEXT_CHARS - len(end)] + end


def wording(upstream: str, name: str, tool: str, reason: str) -> tuple[str, str, str]:
    """Name, tool id and reason of a decision without secrets: they may be the caller's words."""
    plain, reason = without_secrets(name), without_secrets(reason)
    if tool and plain != name:  # of which the tool id is another spelling
        spelled = tool_id(upstream, plain) if upstream else plain
        tool, reason = spelled, reason.replace(tool, spelled)
    return plain, tool, reason


class _Shortening(Redactor):
    """Redacts, and cuts what is long or many, so that it takes a bounded time."""

    def __init__(self) -> None:
        super().__init__()
        self.cut = False
        self._room = _EXAMINED_IN_ALL

    def text(self, text: str) -> str:
        examined = text[: min(_EXAMINED_CHARS, self._room)]
        self._room -= len(examined)
        shown = super().text(examined)
        if len(examined) < len(text):
            shown = shown[: max(0, len(shown) - MAX_VALUE_CHARS)]
            self.cut = True
        if len(shown) > MAX_VALUE_CHARS:
            self.cut = True
        return shown[:MAX_VALUE_CHARS]

    def _value(self, value: object, kind: str | None, depth: int) -> object:
        if isinstance(value, dict | list | tuple) and len(value) > _MAX_ITEMS:
            self.cut = True
            value = (
                dict(islice(value.items(), _MAX_ITEMS))
                if isinstance(value, dict)
                else value[:_MAX_ITEMS]
            )
        if self._room <= 0 and isinstance(value, dict | list | tuple):
            self.cut = True
            return type(value)()
        return super()._value(value, kind, depth)
