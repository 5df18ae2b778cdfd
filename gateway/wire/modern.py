"""The stateless revisions (2026-07-28): the envelope in each request's `_meta`, and HTTP headers.

Every request says for itself which revision it speaks and what its client can do; over HTTP three
headers repeat parts of the body for intermediaries. The body decides, the headers must agree.
"""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping

import msgspec

from gateway.wire.params import Params

MODERN_REVISIONS = ("2026-07-28",)
"""Revisions without a session, oldest first."""
LATEST_MODERN = MODERN_REVISIONS[-1]

PROTOCOL_VERSION = "io.modelcontextprotocol/protocolVersion"
CLIENT_CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"
CLIENT_INFO = "io.modelcontextprotocol/clientInfo"
SERVER_INFO = "io.modelcontextprotocol/serverInfo"
LOG_LEVEL = "io.modelcontextprotocol/logLevel"
SUBSCRIPTION_ID = "io.modelcontextprotocol/subscriptionId"
ENVELOPE_KEYS = frozenset((PROTOCOL_VERSION, CLIENT_CAPABILITIES, CLIENT_INFO, LOG_LEVEL))
"""The keys of `_meta` that only these revisions have."""

HEADER_MISMATCH = -32020
MISSING_CLIENT_CAPABILITY = -32021
UNSUPPORTED_VERSION = -32022
_INVALID_PARAMS = -32602

NAMED_BY = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
"""The member of params that the header Mcp-Name repeats, by method."""
INPUT_METHODS = frozenset(NAMED_BY)
"""Methods that may be answered with a request for input."""
CACHED_METHODS = frozenset(
    (
        "server/discover",
        "tools/list",
        "resources/list",
        "resources/templates/list",
        "resources/read",
        "prompts/list",
    )
)
"""Methods whose complete results carry `ttlMs` and `cacheScope`."""

_SENTINEL = re.compile(r"=\?base64\?(.*)\?=", re.DOTALL)
_PLAIN_VALUE = re.compile(r"[\x20-\x7e]*")
_WHOLE_NUMBER = re.compile(r"(-?[0-9]{1,4000})(?:\.0+)?")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_PARAM_HEADER = "x-mcp-header"
_SCHEMA_IN = frozenset(
    (
        "items",
        "contains",
        "unevaluatedItems",
        "additionalProperties",
        "propertyNames",
        "unevaluatedProperties",
        "not",
        "if",
        "then",
        "else",
        "contentSchema",
    )
)
_SCHEMAS_IN_LIST = frozenset(("allOf", "anyOf", "oneOf", "prefixItems"))
_SCHEMAS_IN_MAP = frozenset(("patternProperties", "dependentSchemas", "$defs", "definitions"))


class Refusal(Exception):  # noqa: N818 - an answer to the client
    """The error that the revision prescribes for a request that breaks its rules."""

    def __init__(self, code: int, message: str, data: object = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data


class RequestEnvelope(msgspec.Struct, frozen=True):
    """What a request says of its client; self-reported, so never a ground for a decision."""

    revision: str
    capabilities: Mapping[str, object]
    client: Mapping[str, object] | None = None
    log_level: str | None = None


def is_modern(params: Params) -> bool:
    """Whether a request speaks a stateless revision at all."""
    meta = params.get("_meta")
    return isinstance(meta, dict) and PROTOCOL_VERSION in meta


def read_envelope(params: Params) -> RequestEnvelope:
    """The envelope of a request; raises Refusal."""
    meta = params.get("_meta")
    if not isinstance(meta, dict):
        raise Refusal(_INVALID_PARAMS, f"_meta must have {PROTOCOL_VERSION}")
    revision, capabilities = meta.get(PROTOCOL_VERSION), meta.get(CLIENT_CAPABILITIES)
    client, log_level = meta.get(CLIENT_INFO), meta.get(LOG_LEVEL)
    if not isinstance(revision, str) or not isinstance(capabilities, dict):
        raise Refusal(
            _INVALID_PARAMS, f"_meta must have {PROTOCOL_VERSION} and {CLIENT_CAPABILITIES}"
        )
    return RequestEnvelope(
        revision=revision,
        capabilities=capabilities,
        client=client if isinstance(client, dict) else None,
        log_level=log_level if isinstance(log_level, str) else None,
    )


def require_supported(envelope: RequestEnvelope) -> None:
    """Refuse a revision that is not known; raises Refusal."""
    if envelope.revision not in MODERN_REVISIONS:
        data = {"supported": list(MODERN_REVISIONS), "requested": envelope.revision}
        raise Refusal(UNSUPPORTED_VERSION, "Unsupported protocol version", data)


def with_envelope(params: Params, envelope: RequestEnvelope) -> Params:
    """The params under an envelope; what else `_meta` holds stays."""
    meta = params.get("_meta")
    written: dict[str, object] = dict(meta) if isinstance(meta, dict) else {}
    written[PROTOCOL_VERSION] = envelope.revision
    written[CLIENT_CAPABILITIES] = dict(envelope.capabilities)
    if envelope.client is not None:
        written[CLIENT_INFO] = dict(envelope.client)
    if envelope.log_level is not None:
        written[LOG_LEVEL] = envelope.log_level
    return {**params, "_meta": written}


def without_envelope(params: Params) -> Params:
    """The params as a handshake revision has them."""
    meta = params.get("_meta")
    if not isinstance(meta, dict) or ENVELOPE_KEYS.isdisjoint(meta):
        return params
    kept = {key: value for key, value in meta.items() if key not in ENVELOPE_KEYS}
    if kept:
        return {**params, "_meta": kept}
    return {key: value for key, value in params.items() if key != "_meta"}


def without_round(params: Params) -> Params:
    """The params without what belongs to one round of a call that needs input."""
    if "requestState" not in params and "inputResponses" not in params:
        return params
    return {
        key: value for key, value in params.items() if key not in ("requestState", "inputResponses")
    }


def check_headers(
    headers: Mapping[str, str | None], method: str, params: Params, revision: str
) -> None:
    """Refuse a request whose headers say other than its body; raises Refusal.

    `headers` are by lower-case name; None stands for one that was sent more than once.
    """
    expected = {"mcp-protocol-version": revision, "mcp-method": method}
    named_by = NAMED_BY.get(method)
    named = params.get(named_by) if named_by is not None else None
    if isinstance(named, str):
        expected["mcp-name"] = named
    for header, value in expected.items():
        if decode_header(headers.get(header)) != value:
            raise Refusal(
                HEADER_MISMATCH, f"the header {header} is missing or does not equal the body"
            )


def request_headers(
    method: str, params: Params, revision: str, schema: object = None
) -> dict[str, str]:
    """The headers of a request over HTTP; `schema` is the input schema of a tool that is called."""
    headers = {"MCP-Protocol-Version": revision, "Mcp-Method": method}
    named_by = NAMED_BY.get(method)
    named = params.get(named_by) if named_by is not None else None
    if isinstance(named, str):
        headers["Mcp-Name"] = encode_header(named)
    arguments = params.get("arguments")
    if schema is not None and isinstance(arguments, dict):
        headers.update(param_headers(schema, arguments))
    return headers


def check_param_headers(
    headers: Mapping[str, str | None], schema: object, arguments: Mapping[str, object]
) -> None:
    """Refuse a tool call whose Mcp-Param headers say other than its arguments; raises Refusal.

    A header without its argument is refused too: whoever routes by headers would be misled. Marks
    that are invalid mean nothing.
    """
    if unusable_param_header(schema) is not None:
        return
    for path, name, part in _marked(schema):
        header = f"Mcp-Param-{name}"
        value = _at(path, arguments)
        text = _scalar(value)
        if text is None:
            agrees = header.lower() not in headers
        else:
            given = decode_header(headers.get(header.lower()))
            agrees = given == text or (
                part["type"] == "integer" and given is not None and _same_integer(value, given)
            )
        if not agrees:
            raise Refusal(
                HEADER_MISMATCH, f"the header {header} is missing or does not equal the argument"
            )


def param_headers(schema: object, arguments: Mapping[str, object]) -> dict[str, str]:
    """The Mcp-Param headers of a tool call: arguments that the tool's schema marks for it.

    None where the marks are invalid.
    """
    headers: dict[str, str] = {}
    if unusable_param_header(schema) is not None:
        return headers
    for path, name, _ in _marked(schema):
        text = _scalar(_at(path, arguments))
        if text is not None:
            headers[f"Mcp-Param-{name}"] = encode_header(text)
    return headers


def unusable_param_header(schema: object) -> str | None:
    """Why the marks in a tool's schema are invalid (clients must drop such a tool), or None."""
    seen: set[str] = set()
    for path, part in _parts(schema):
        if _PARAM_HEADER not in part:
            continue
        name = part[_PARAM_HEADER]
        if not path:
            return f"{_PARAM_HEADER} stands where no property is"
        if not isinstance(name, str) or _TOKEN.fullmatch(name) is None:
            return f"{_PARAM_HEADER} of {'.'.join(path)} is no header name"
        if part.get("type") not in ("string", "integer", "boolean"):
            return f"{_PARAM_HEADER} of {'.'.join(path)} is not on a string, integer or boolean"
        if name.lower() in seen:
            return f"{_PARAM_HEADER} {name!r} stands twice"
        seen.add(name.lower())
    return None


def encode_header(value: str) -> str:
    """A text as a header value: plain where it survives, else Base64 in a sentinel."""
    plain = _PLAIN_VALUE.fullmatch(value) is not None and value == value.strip()
    if plain and _SENTINEL.fullmatch(value) is None:
        return value
    return f"=?base64?{base64.b64encode(value.encode()).decode()}?="


def decode_header(value: str | None) -> str | None:
    """The text of a header value; None for a missing one and for one that is not well-formed."""
    if value is None:
        return None
    sentinel = _SENTINEL.fullmatch(value)
    if sentinel is None:
        return value
    try:
        decoded = base64.b64decode(sentinel[1], validate=True)
        if base64.b64encode(decoded).decode() != sentinel[1]:
            return None
        return decoded.decode()
    except (binascii.Error, UnicodeDecodeError):
        return None


def _at(path: tuple[str, ...], arguments: Mapping[str, object]) -> object:
    value: object = arguments
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _scalar(value: object) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return str(value)
    return None


def _same_integer(value: object, given: str) -> bool:
    """Whether a header says the same whole number, which `42` and `42.0` both are."""
    said = _WHOLE_NUMBER.fullmatch(given)
    if said is None or isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return int(said[1]) == value


def _marked(
    schema: object,
) -> Iterator[tuple[tuple[str, ...], str, Mapping[str, object]]]:
    for path, part in _parts(schema):
        name = part.get(_PARAM_HEADER)
        if path and isinstance(name, str):
            yield path, name, part


def _parts(root: object) -> Iterator[tuple[tuple[str, ...] | None, Mapping[str, object]]]:
    """Every schema in a schema, with its path where that leads over `properties` alone."""
    waiting: list[tuple[tuple[str, ...] | None, object]] = [((), root)]
    while waiting:
        path, part = waiting.pop()
        if not isinstance(part, Mapping):
            continue
        yield path, part
        for keyword, value in part.items():
            if keyword == "properties" and isinstance(value, Mapping):
                for name, inner in value.items():
                    waiting.append((None if path is None else (*path, name), inner))
            elif keyword in _SCHEMA_IN:
                waiting.append((None, value))
            elif keyword in _SCHEMAS_IN_LIST and isinstance(value, list):
                waiting.extend((None, inner) for inner in value)
            elif keyword in _SCHEMAS_IN_MAP and isinstance(value, Mapping):
                waiting.extend((None, inner) for inner in value.values())
