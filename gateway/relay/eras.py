"""Results between the two protocol eras: what one has and the other has not."""

import re

import msgspec

from gateway.wire import frames
from gateway.wire.envelope import MalformedFrame
from gateway.wire.modern import CACHED_METHODS, INPUT_METHODS, SERVER_INFO
from gateway.wire.params import encode

Result = dict[str, object]

_decode = msgspec.json.Decoder(dict[str, object]).decode
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


_RESULT_TYPE = re.compile(
    b'"%b"' % b"".join(b"(?:%c|\\\\u00%02x)" % (letter, letter) for letter in b"resultType"),
    re.IGNORECASE,
)
"""The name, each letter of which may be an escape."""


class _Error(msgspec.Struct):
    code: int
    message: str = ""


_decode_error = msgspec.json.Decoder(_Error).decode


def carried(
    method: str, result: memoryview, *, from_modern: bool, to_modern: bool
) -> bytes | memoryview:
    """An upstream's result in the client's era; raises MalformedFrame where it is no object.

    Within the handshake era nothing changes. A result of the stateless era is never left `public`:
    what one agent may read, a cache must not hand to another. What is changed is written anew from
    its members, each once and itself unchanged, so that no name can stand twice or be hidden
    behind escapes.
    """
    if not from_modern and not to_modern:
        return result
    if from_modern and to_modern:
        if method in CACHED_METHODS:
            members = _members(result)
            if "cacheScope" in members:
                members["cacheScope"] = "private"
            return encode(members)
        if method in INPUT_METHODS and _has_two_types(bytes(result)):
            return encode(_members(result))
        return result
    fitted = without_modern if from_modern else with_modern
    return encode(fitted(method, _members(result)))


def _members(result: memoryview) -> Result:
    """The members of a result, each still encoded; raises MalformedFrame."""
    try:
        return dict(_decode_members(result))
    except (msgspec.DecodeError, RecursionError):
        raise MalformedFrame("the result is no object that can be read") from None


def _may_want_input(encoded: bytes) -> bool:
    """Whether a result could say `input_required`, be it behind escapes."""
    return b"input_required" in encoded or b"\\u" in encoded


def _has_two_types(encoded: bytes) -> bool:
    """Whether a result may say `resultType` twice, one of them `input_required`."""
    return _may_want_input(encoded) and len(_RESULT_TYPE.findall(encoded)) > 1


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
    meta = _object(value.get("_meta"))
    if meta is not None and SERVER_INFO in meta:
        kept = {key: item for key, item in meta.items() if key != SERVER_INFO}
        value["_meta"] = kept
        if not kept:
            del value["_meta"]
    return value


def _object(value: object) -> Result | None:
    """A member that is an object, encoded or not; None for any other."""
    if isinstance(value, dict):
        return value
    try:
        return dict(_decode_members(value)) if isinstance(value, msgspec.Raw) else None
    except (msgspec.DecodeError, RecursionError):
        return None


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
    """The code of an encoded error; None where it has none."""
    try:
        return _decode_error(encoded).code
    except (msgspec.DecodeError, RecursionError):
        return None


def input_required(method: str, result: memoryview) -> Result | None:
    """The decoded result where it asks for input before the call, or a task, can go on."""
    encoded = bytes(result)
    if method.startswith("tasks/"):
        try:
            task = _decode(encoded)
        except (msgspec.DecodeError, RecursionError):
            return None
        return task if "inputRequests" in task else None
    if method not in INPUT_METHODS:
        return None
    if not _may_want_input(encoded):
        return None
    try:
        value = _decode(encoded)
    except (msgspec.DecodeError, RecursionError):
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
