"""JSON objects that are decided on, decoded so that everybody can read only the one value.

What a client sends is decoded, checked and encoded anew; the upstream sees the second encoding.
"""

import json
import unicodedata

import msgspec

from gateway.wire.envelope import MAX_DEPTH, MalformedFrame

_GUARDED = (
    *("jsonrpc", "id", "method", "params", "result", "error"),
    *("name", "arguments", "uri", "_meta", "ref", "type", "task", "taskId", "requestId"),
)
_FOLDED = {name.casefold(): name for name in _GUARDED}
_PLAIN = frozenset((*_GUARDED, "cursor", "argument", "context", "level"))

Params = dict[str, object]

_decode = msgspec.json.Decoder(dict[str, object]).decode
encode = msgspec.json.encode
"""Compact JSON in UTF-8; the encoding that upstreams are sent."""


def decode_params(encoded: bytes | None) -> Params:
    """Decode the params of a message; None is no params. Raises MalformedFrame as `decode_object`.

    Names that differ from one the gateway decides on only in case or Unicode form (CVE-2026-27896)
    are refused at the top level and in `ref`, which holds the target of a completion.
    """
    if encoded is None:
        return {}
    params = decode_object(encoded, "params")
    ref = params.get("ref")
    for name in (*params, *ref) if isinstance(ref, dict) else params:
        if name not in _PLAIN and (guarded := _FOLDED.get(_fold(name))) is not None:
            raise MalformedFrame(f"the params have a look-alike of {guarded!r}")
    return params


def with_progress_token(params: Params, token: int) -> Params:
    """The params with another progress token than their own."""
    meta = params.get("_meta")
    kept = meta if isinstance(meta, dict) else {}
    return {**params, "_meta": {**kept, "progressToken": token}}


def decode_object(encoded: bytes, what: str) -> Params:
    """Decode an object; raises MalformedFrame, which calls it `what`, where parsers may differ.

    That is: duplicate keys at any depth, more than MAX_DEPTH levels, numbers out of range.
    """
    try:
        params = _decode(encoded)
        # The encoder cannot write a name twice, so equal bytes prove that none stood twice.
        if encode(params) != encoded:
            json.loads(encoded, object_pairs_hook=_refuse_duplicates)
    except RecursionError:
        raise MalformedFrame(f"the {what} are nested too deeply") from None
    except (msgspec.DecodeError, ValueError) as error:
        raise MalformedFrame(f"the {what} cannot be read safely: {error}") from None
    if encoded.count(b"{") + encoded.count(b"[") > MAX_DEPTH and is_deep(params):
        raise MalformedFrame(f"the {what} are nested deeper than {MAX_DEPTH} levels")
    return params


def is_deep(value: object) -> bool:
    """Whether objects and lists stand in one another more than MAX_DEPTH levels deep."""
    level = [value]
    for _ in range(MAX_DEPTH):
        inner: list[object] = []
        for item in level:
            if isinstance(item, dict):
                inner.extend(item.values())
            elif isinstance(item, list):
                inner.extend(item)
        level = [item for item in inner if isinstance(item, dict | list)]
        if not level:
            return False
    return True


def _refuse_duplicates(pairs: list[tuple[str, object]]) -> None:
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("an object has the same key twice")


def _fold(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()
