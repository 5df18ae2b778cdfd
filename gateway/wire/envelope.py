"""JSON-RPC envelopes, parsed strictly: one frame in, one checked message out.

Parsers disagree about duplicate keys, case and escapes, and a gateway that decides on one reading
while the other side acts on another is no gateway. So an envelope is refused unless every reader
must understand it alike: valid UTF-8, only the six members of JSON-RPC 2.0, each at most once and
spelled plainly, an id that is an integer or a string.

`params`, `result` and `error` stay encoded (`bytes` or a view), on one line: most results are never
decoded.
"""

import re
from typing import Literal

import msgspec

MAX_DEPTH = 64
MAX_BATCH = 50
_MAX_ID_CHARS = 256
_CHUNK_BYTES = 1 << 20
_DECODED_BYTES = 32 << 10  # at a time: twice that as text still fits into the nearest caches
_LONGEST_CHARACTER = 4  # bytes in UTF-8

_MEMBER = re.compile(rb'[ \t\r\n]*"(jsonrpc|id|method|params|result|error)"[ \t\r\n]*:[ \t\r\n]*')
_OPEN = re.compile(rb"[ \t\r\n]*\{")
_NEXT = re.compile(rb"[ \t\r\n]*([,}])")
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|-?[0-9]+|null')
_FIRST = re.compile(rb"[ \t\r\n]*([^ \t\r\n])")
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)

RequestId = int | str


class MalformedFrame(Exception):  # noqa: N818 - the field's word for it
    """A frame that is not one JSON-RPC message that all parsers read alike.

    `reason` is a sentence for people and models; `request_id` is the id to answer, if one could
    be read without doubt.
    """

    def __init__(self, reason: str, request_id: RequestId | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.request_id = request_id


class Request(msgspec.Struct, frozen=True):
    """A message that wants an answer. `params` is one encoded JSON object, or None."""

    id: RequestId
    method: str
    params: bytes | None


class Notification(msgspec.Struct, frozen=True):
    """A message that wants no answer. `params` is one encoded JSON object, or None."""

    method: str
    params: bytes | None


class Response(msgspec.Struct, frozen=True):
    """An answer: exactly one of `result` and `error` is set, still encoded.

    `id` is None only for an error about a frame whose id could not be read.
    """

    id: RequestId | None
    result: memoryview | None
    error: bytes | None


Message = Request | Notification | Response


class _Envelope(msgspec.Struct, forbid_unknown_fields=True):
    jsonrpc: Literal["2.0"]
    id: int | str | msgspec.UnsetType | None = msgspec.UNSET
    method: str | msgspec.UnsetType = msgspec.UNSET
    params: msgspec.Raw = msgspec.Raw()
    result: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()


# The spellings that the SDKs write, in one piece: what they bracket need only be one JSON value to
# make the whole a plain envelope, so nothing has to be searched for duplicates.
_PLAIN = re.compile(
    rb'\{"jsonrpc":"2\.0","id":(-?[0-9]{1,15}|"[^"\\\x00-\x1f]{0,%d}")'
    rb',(?:"method":"([^"\\\x00-\x1f]*)","params":(?=\{)|"result":)' % _MAX_ID_CHARS
)
_PLAIN_RESULT_FIRST = b'{"result":'
_PLAIN_RESULT_LAST = re.compile(rb',"jsonrpc":"2\.0","id":(-?[0-9]{1,15})\}\Z')
_LAST_BYTES = 64
_CLOSING = ord("}")
_QUOTE = ord('"')

_decode = msgspec.json.Decoder(_Envelope).decode
_decode_raw = msgspec.json.Decoder(msgspec.Raw).decode
_decode_members = msgspec.json.Decoder(list[msgspec.Raw]).decode


def parse(frame: bytes, *, mend_surrogates: bool = False) -> Message:
    """Read one frame as one message.

    `mend_surrogates`: a lone surrogate escape, which some servers write when they cut a text in the
    middle of an emoji, is replaced by U+FFFD instead of being refused. Raises MalformedFrame.
    """
    if not frame.isascii() and not is_utf8(frame):
        raise MalformedFrame("the message is not valid UTF-8")
    plain = _parse_plain(frame)
    if plain is not None:
        return plain
    try:
        envelope = _decode(frame)
    except RecursionError:
        raise MalformedFrame("the message is nested too deeply") from None
    except msgspec.DecodeError as error:
        if mend_surrogates and b"\\ud" in frame.lower():
            mended = _ESCAPE.sub(_mend, frame)
            if mended != frame:
                return parse(mended)
        raise MalformedFrame(_explain(frame, error)) from None
    _require_plain_members(frame, envelope)
    return _classify(envelope, broken=b"\n" in frame or b"\r" in frame)


def _parse_plain(frame: bytes) -> Request | Response | None:
    """A frame in one of the usual spellings; None for any other, and for what is not well-formed.

    A value ends where its decoder says, so one value between the fixed parts leaves no room for a
    second member of any name.
    """
    begun = _PLAIN.match(frame)
    if begun is not None:
        written, method = begun.groups()
        start, end = begun.end(), len(frame) - 1
        if frame[end] != _CLOSING:
            return None
    elif frame.startswith(_PLAIN_RESULT_FIRST):
        ended = _PLAIN_RESULT_LAST.search(frame, max(len(frame) - _LAST_BYTES, 0))
        if ended is None:
            return None
        written, method = ended[1], None
        start, end = len(_PLAIN_RESULT_FIRST), ended.start()
    else:
        return None
    quoted = written[0] == _QUOTE
    if quoted and method is None:
        return None
    # A result can be large: it is not copied out of its frame.
    value = frame[start:end] if method is not None else memoryview(frame)[start:end]
    try:
        _decode_raw(value)
    except (msgspec.DecodeError, RecursionError):
        return None
    if b"\n" in frame or b"\r" in frame:
        value = _join(bytes(value))
    if method is None:
        return Response(int(written), memoryview(value), None)
    identifier = written[1:-1].decode() if quoted else int(written)
    return Request(identifier, method.decode(), bytes(value))


def split_batch(frame: bytes) -> list[bytes] | None:
    """The members of a JSON-RPC batch, still encoded, or None when the frame is no array.

    Raises MalformedFrame for an empty batch and one of more than `MAX_BATCH` members.
    """
    first = _FIRST.match(frame)
    if first is None or first[1] != b"[":
        return None
    try:
        members = _decode_members(frame)
    except RecursionError:
        raise MalformedFrame("the message is nested too deeply") from None
    except msgspec.DecodeError as error:
        raise MalformedFrame(f"the message is not valid JSON: {error}") from None
    if not members:
        raise MalformedFrame("a batch must have at least one message")
    if len(members) > MAX_BATCH:
        raise MalformedFrame(f"a batch may have at most {MAX_BATCH} messages")
    return [bytes(member) for member in members]


def is_utf8(data: bytes) -> bool:
    """Whether `data` is valid UTF-8, without a decoded copy of the whole."""
    if data.isascii():
        return True
    view = memoryview(data)
    start, size = 0, len(data)
    while start < size:
        end = min(start + _DECODED_BYTES, size)
        for _ in range(_LONGEST_CHARACTER - 1):  # not to cut one in two
            if end < size and data[end] & 0xC0 == 0x80:
                end -= 1
        try:
            str(view[start:end], "utf-8")
        except UnicodeDecodeError:
            return False
        start = end
    return True


def _join(encoded: bytes) -> bytes:
    """The same JSON on one line: line breaks, legal only between tokens, become blanks.

    Left in, an upstream could smuggle a second frame to a client that reads lines.
    """
    if b"\n" in encoded or b"\r" in encoded:
        return encoded.replace(b"\n", b" ").replace(b"\r", b" ")
    return encoded


def _mend(match: re.Match[bytes]) -> bytes:
    return b"\\ufffd" if match[1] is not None else match[0]


def _explain(frame: bytes, error: msgspec.DecodeError) -> str:
    if isinstance(error, msgspec.ValidationError):
        return f"the message is not a JSON-RPC 2.0 envelope: {error}"
    first = _FIRST.match(frame)
    if first is not None and first[1] == b"[":
        return "batches are not part of this protocol revision"
    return f"the message is not valid JSON: {error}"


def _require_plain_members(frame: bytes, envelope: _Envelope) -> None:
    """Refuse duplicate and escaped member names by walking the top level of the frame.

    The decoder keeps the last of two equal names without a word. Walking needs no second parser:
    each member's value must be the very text the decoder kept for it, and JSON values (but for
    numbers, which a delimiter must follow here) are never proper prefixes of one another, so the
    walk ends at the closing brace only if no name stands twice.
    """
    opened = _OPEN.match(frame)
    position = opened.end() if opened is not None else 0
    seen: set[bytes] = set()
    while True:
        member = _MEMBER.match(frame, position)
        if member is None:
            raise MalformedFrame("the message has a member that is not written plainly")
        name = member[1]
        if name in seen:
            raise MalformedFrame(f'the message has the member "{name.decode()}" twice')
        seen.add(name)
        position = member.end()
        if name == b"result":
            position += _skip(frame, position, envelope.result)
        elif name == b"params":
            position += _skip(frame, position, envelope.params)
        elif name == b"error":
            position += _skip(frame, position, envelope.error)
        else:
            token = _TOKEN.match(frame, position)
            if token is None:
                raise MalformedFrame(f'the member "{name.decode()}" has an unusable value')
            position = token.end()
        following = _NEXT.match(frame, position)
        if following is None:
            raise MalformedFrame("the message has a member twice")
        position = following.end()
        if following[1] == b"}":
            return


def _skip(frame: bytes, position: int, kept: msgspec.Raw) -> int:
    view = memoryview(kept)
    size = view.nbytes
    for start in range(0, size, _CHUNK_BYTES):
        if not frame.startswith(bytes(view[start : start + _CHUNK_BYTES]), position + start):
            raise MalformedFrame("the message has a member twice")
    return size


def _classify(envelope: _Envelope, *, broken: bool) -> Message:
    identifier = envelope.id
    if isinstance(identifier, str) and len(identifier) > _MAX_ID_CHARS:
        raise MalformedFrame(f"the id is longer than {_MAX_ID_CHARS} characters")
    params = bytes(envelope.params)
    result = memoryview(envelope.result)
    error = bytes(envelope.error)
    if broken:
        params, result, error = _join(params), memoryview(_join(bytes(result))), _join(error)
    method = envelope.method
    if method is not msgspec.UNSET:
        if result.nbytes or error:
            raise MalformedFrame("a message cannot be a request and a response at once")
        if params and not params.startswith(b"{"):
            raise MalformedFrame(
                "params must be an object",
                identifier if isinstance(identifier, int | str) else None,
            )
        if identifier is msgspec.UNSET:
            return Notification(method, params or None)
        if identifier is None:
            raise MalformedFrame("a request's id must be a string or an integer, not null")
        return Request(identifier, method, params or None)
    if params:
        raise MalformedFrame("a message with params needs a method")
    if identifier is msgspec.UNSET:
        raise MalformedFrame("a message needs a method or an id")
    if bool(result.nbytes) == bool(error):
        raise MalformedFrame("a response has either a result or an error")
    if error:
        if not error.startswith(b"{"):
            raise MalformedFrame("an error must be an object")
        return Response(identifier, None, error)
    if identifier is None:
        raise MalformedFrame("a result needs the id of its request")
    return Response(identifier, result, None)
