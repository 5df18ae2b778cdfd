"""Writing JSON-RPC frames: every envelope that leaves the gateway is written here."""

import msgspec

from gateway.wire.envelope import RequestId

_encode = msgspec.json.encode

WITHHELD = 451
"""A rule about results keeps the answer from the client."""
REFUSED = 403
"""A decision refused the request."""
UPSTREAM_LOST = 502
"""The upstream ended, or answered with something unusable, while it had the request."""
UNAVAILABLE = 503
"""The upstream cannot be reached, or the audit log cannot be written."""
TIMED_OUT = 504
"""The upstream did not answer within its configured time."""
# Own codes lie outside -32768..-32000, which JSON-RPC and MCP keep for themselves.

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
RESOURCE_NOT_FOUND = -32002
"""Handshake revisions only; 2026-07-28 answers INVALID_PARAMS."""


def request(identifier: int, method: str, params: bytes | None) -> bytes:
    """A request with the gateway's own id; `params` is encoded JSON."""
    if params is None:
        return b'{"jsonrpc":"2.0","id":%d,"method":%b}' % (identifier, _encode(method))
    return b'{"jsonrpc":"2.0","id":%d,"method":%b,"params":%b}' % (
        identifier,
        _encode(method),
        params,
    )


def notification(method: str, params: bytes | None) -> bytes:
    """A notification; `params` is encoded JSON."""
    if params is None:
        return b'{"jsonrpc":"2.0","method":%b}' % _encode(method)
    return b'{"jsonrpc":"2.0","method":%b,"params":%b}' % (_encode(method), params)


def result(identifier: RequestId, encoded: bytes | memoryview) -> bytes:
    """A successful answer; `encoded` is spliced in as it is."""
    return b"".join((b'{"jsonrpc":"2.0","id":', _encode(identifier), b',"result":', encoded, b"}"))


def encoded_error(identifier: RequestId | None, encoded: bytes) -> bytes:
    """A failed answer whose error object is already encoded."""
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (_encode(identifier), encoded)


def error(identifier: RequestId | None, code: int, message: str, data: object = None) -> bytes:
    """A failed answer."""
    body: dict[str, object] = {"code": code, "message": message}
    if data is not None:
        body["data"] = data
    return encoded_error(identifier, _encode(body))


def tool_error(text: str, *, modern: bool = False) -> bytes:
    """The result of a tool call that was refused, in words for the model."""
    result: dict[str, object] = {"content": [{"type": "text", "text": text}], "isError": True}
    if modern:
        result["resultType"] = "complete"
    return _encode(result)
