"""The params of a request, decoded so that the decided value is the only one anybody can read.

What a client sends is decoded, checked and encoded anew; the upstream sees the second encoding.
"""

import json
import unicodedata

import msgspec

from gateway.wire.envelope import MAX_DEPTH, MalformedFrame

_GUARDED = frozenset(
    ("jsonrpc", "id", "method", "params", "result", "error", "name", "arguments", "uri", "_meta")
)
_PLAIN = _GUARDED | {"cursor", "ref", "argument", "context", "level", "task", "taskId", "requestId"}

Params = dict[str, object]

_decode = msgspec.json.Decoder(dict[str, object]).decode
encode = msgspec.json.encode
"""Compact JSON in UTF-8; the encoding that upstreams are sent."""


def decode_params(encoded: bytes | None) -> Params:
    """Decode a request's params; raises MalformedFrame on what parsers read differently.

    That is: duplicate keys at any depth, more than MAX_DEPTH levels, numbers out of range, and
    top-level names that differ from one the gateway decides on only in case or Unicode form
    (CVE-2026-27896).
    """
    if encoded is None:
        return {}
    try:
        params = _decode(encoded)
        # The encoder cannot write a name twice, so equal bytes prove that none stood twice.
        if encode(params) != encoded:
            json.loads(encoded, object_pairs_hook=_refuse_duplicates)
    except RecursionError:
        raise MalformedFrame("the params are nested too deeply") from None
    except (msgspec.DecodeError, ValueError) as error:
        raise MalformedFrame(f"the params cannot be read safely: {error}") from None
    if encoded.count(b"{") + encoded.count(b"[") > MAX_DEPTH and _depth(params) > MAX_DEPTH:
        raise MalformedFrame(f"the params are nested deeper than {MAX_DEPTH} levels")
    for name in params:
        if name not in _PLAIN and _fold(name) in _GUARDED:
            raise MalformedFrame(f"the params have a look-alike of {_fold(name)!r}")
    return params


def _refuse_duplicates(pairs: list[tuple[str, object]]) -> None:
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("an object has the same key twice")


def _fold(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()


def _depth(value: object) -> int:
    deepest = 0
    waiting: list[tuple[object, int]] = [(value, 1)]
    while waiting:
        item, level = waiting.pop()
        deepest = max(deepest, level)
        if isinstance(item, dict):
            waiting.extend((child, level + 1) for child in item.values())
        elif isinstance(item, list):
            waiting.extend((child, level + 1) for child in item)
    return deepest
