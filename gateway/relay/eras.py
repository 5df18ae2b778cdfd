"""Results between the two protocol eras: what one has and the other has not."""

import msgspec

from gateway.wire import frames
from gateway.wire.modern import CACHED_METHODS, INPUT_METHODS, SERVER_INFO
from gateway.wire.params import encode

Result = dict[str, object]

_decode = msgspec.json.Decoder(dict[str, object]).decode
_CACHE_MEMBERS = b',"ttlMs":0,"cacheScope":"private"'


class _Error(msgspec.Struct):
    code: int
    message: str = ""


_decode_error = msgspec.json.Decoder(_Error).decode


def carried(
    method: str, result: memoryview, *, from_modern: bool, to_modern: bool
) -> bytes | memoryview:
    """An upstream's result in the client's era.

    Within the handshake era nothing changes. A result of the stateless era is never left `public`:
    what one agent may read, a cache must not hand to another.
    """
    if not from_modern and not to_modern:
        return result
    encoded = bytes(result)
    if from_modern and to_modern:
        if method in CACHED_METHODS and b'"public"' in encoded:
            value = _decode(encoded)
            value["cacheScope"] = "private"
            return encode(value)
        return result
    if from_modern:
        return encode(without_modern(method, _decode(encoded)))
    if b'"resultType"' in encoded:
        return encode(with_modern(method, _decode(encoded)))
    rest = encoded[1:].lstrip()
    cached = _CACHE_MEMBERS if method in CACHED_METHODS and b'"ttlMs"' not in encoded else b""
    comma = b"" if rest.startswith(b"}") else b","
    return b'{"resultType":"complete"' + cached + comma + rest


def with_modern(method: str, result: Result) -> Result:
    """A handshake-era result as the stateless era wants it: complete, and not to be shared."""
    value: Result = {**result, "resultType": "complete"}
    if method in CACHED_METHODS:
        value["ttlMs"] = result.get("ttlMs", 0)
        value["cacheScope"] = "private"
    return value


def without_modern(method: str, result: Result) -> Result:
    """A stateless-era result as the handshake era knows it."""
    value = {key: item for key, item in result.items() if key != "resultType"}
    if method in CACHED_METHODS:
        value.pop("ttlMs", None)
        value.pop("cacheScope", None)
    meta = value.get("_meta")
    if isinstance(meta, dict) and SERVER_INFO in meta:
        kept = {key: item for key, item in meta.items() if key != SERVER_INFO}
        value["_meta"] = kept
        if not kept:
            del value["_meta"]
    return value


def carried_error(encoded: bytes, *, to_modern: bool, from_modern: bool) -> bytes:
    """An upstream's error in the client's era; only "resource not found" has two codes."""
    if from_modern or not to_modern:
        return encoded
    try:
        if _decode_error(encoded).code != frames.RESOURCE_NOT_FOUND:
            return encoded
        error = _decode(encoded)
    except msgspec.DecodeError:
        return encoded
    return encode({**error, "code": frames.INVALID_PARAMS})


def error_code(encoded: bytes) -> int | None:
    """The code of an encoded error."""
    try:
        return _decode_error(encoded).code
    except msgspec.DecodeError:
        return None


def input_required(method: str, result: memoryview) -> Result | None:
    """The decoded result where it asks for input before the call can go on."""
    if method not in INPUT_METHODS:
        return None
    encoded = bytes(result)
    if b'"input_required"' not in encoded:
        return None
    try:
        value = _decode(encoded)
    except msgspec.DecodeError:
        return None
    return value if value.get("resultType") == "input_required" else None


def discovered(answer: Result, versions: list[str]) -> Result:
    """An answer to `server/discover`, made from either era's handshake answer."""
    result: Result = {
        "supportedVersions": versions,
        "capabilities": answer.get("capabilities", {}),
        "resultType": "complete",
        "ttlMs": 0,
        "cacheScope": "private",
    }
    if "instructions" in answer:
        result["instructions"] = answer["instructions"]
    meta = answer.get("_meta")
    server = answer.get("serverInfo")
    if server is None and isinstance(meta, dict):
        server = meta.get(SERVER_INFO)
    if server is not None:
        result["_meta"] = {SERVER_INFO: server}
    return result


def initialized(answer: Result, revision: str, name: str) -> Result:
    """An answer to `initialize`, made from either era's handshake answer."""
    if "supportedVersions" not in answer:
        return answer
    meta = answer.get("_meta")
    server = meta.get(SERVER_INFO) if isinstance(meta, dict) else None
    result: Result = {
        "protocolVersion": revision,
        "capabilities": answer.get("capabilities", {}),
        "serverInfo": server or {"name": name, "version": "unknown"},
    }
    if "instructions" in answer:
        result["instructions"] = answer["instructions"]
    return result
