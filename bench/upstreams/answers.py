"""What the echo upstreams answer: bytes for a message, most of them prepared once.

`echo` gives a text back; `blob` gives `size` bytes of text, with `wide` in a script that is not
ASCII; every other tool behaves as `echo`.
"""

import msgspec

_REVISIONS = frozenset(("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"))
_NO_METHOD = b'{"code":-32601,"message":"Method not found"}'


class _Message(msgspec.Struct):
    method: str = ""
    id: msgspec.Raw = msgspec.Raw()
    params: msgspec.Raw = msgspec.Raw()


class _Arguments(msgspec.Struct):
    text: msgspec.Raw = msgspec.Raw(b'""')
    size: int = 0
    wide: bool = False


class _Call(msgspec.Struct):
    name: str = ""
    arguments: _Arguments = msgspec.field(default_factory=_Arguments)


class _Handshake(msgspec.Struct, rename="camel"):
    protocol_version: str = ""


_message = msgspec.json.Decoder(_Message).decode
_call = msgspec.json.Decoder(_Call).decode
_handshake = msgspec.json.Decoder(_Handshake).decode


class Answers:
    """The answers of one upstream with so many tools."""

    def __init__(self, tools: int) -> None:
        self._listing = msgspec.json.encode({"tools": [tool(number) for number in range(tools)]})
        self._blobs: dict[tuple[int, bool], bytes] = {}

    def to(self, frame: bytes) -> tuple[bytes, ...] | None:
        """The pieces of the answer to one message; None where it wants none."""
        message = _message(frame)
        identifier = bytes(message.id)
        if not identifier or not message.method:
            return None
        result = self._result(message)
        if result is None:
            return (b'{"jsonrpc":"2.0","id":', identifier, b',"error":', _NO_METHOD, b"}")
        return (b'{"jsonrpc":"2.0","id":', identifier, b',"result":', result, b"}")

    def _result(self, message: _Message) -> bytes | None:
        if message.method == "tools/call":
            return self._called(_call(message.params))
        if message.method == "tools/list":
            return self._listing
        if message.method == "initialize":
            asked = _handshake(message.params).protocol_version
            return msgspec.json.encode(
                {
                    "protocolVersion": asked if asked in _REVISIONS else "2025-11-25",
                    "capabilities": {"tools": {}},
                    "serverInfo": {"name": "echo", "version": "1"},
                }
            )
        return b"{}" if message.method == "ping" else None

    def _called(self, call: _Call) -> bytes:
        arguments = call.arguments
        if call.name != "blob":
            return b'{"content":[{"type":"text","text":%b}]}' % bytes(arguments.text)
        kept = self._blobs.get((arguments.size, arguments.wide))
        if kept is None:
            text = _text(arguments.size, wide=arguments.wide)
            kept = msgspec.json.encode({"content": [{"type": "text", "text": text}]})
            self._blobs[arguments.size, arguments.wide] = kept
        return kept


def tool(number: int) -> dict[str, object]:
    """The definition of a tool: `echo`, `blob`, then numbered ones, of a usual length."""
    name = ("echo", "blob")[number] if number < 2 else f"tool_{number:05d}"
    return {
        "name": name,
        "description": f"The tool {name}, which gives its text back to whoever calls it.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "text": {"type": "string", "description": "What comes back"},
                "size": {"type": "integer", "description": "How many bytes come back"},
                "wide": {"type": "boolean", "description": "Whether they are not ASCII"},
            },
        },
    }


def _text(size_bytes: int, *, wide: bool) -> str:
    line = "Ein Übungssatz, größer als ASCII. " if wide else "A line of plain text, as logs are. "
    return (
        (line * (size_bytes // len(line.encode()) + 1))
        .encode()[:size_bytes]
        .decode(errors="ignore")
    )
