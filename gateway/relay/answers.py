"""What the log says of an upstream's answer: its digest, and whether it is an error."""

from typing import Final, NamedTuple

import msgspec

from gateway.audit.keys import Digester
from gateway.policy.results import Changes

INLINE_BYTES: Final = 64 * 1024
"""Results up to this size are examined on the event loop, larger ones in a thread."""

_IS_ERROR: Final = b'"isError"'


class Answer(NamedTuple):
    """What an upstream answered to a call, on its way into the log.

    `tool`: the call was one of a tool, so its result can say that it is an error. `changes` is
    what rules about results did to it.
    """

    call: str
    duration_us: int
    result: memoryview
    tool: bool
    changes: Changes | None


def examined(answer: Answer, digester: Digester) -> tuple[str, bool]:
    """The keyed digest of a result, and whether it says that it is an error."""
    is_error = answer.tool and _says_error(bytes(answer.result))
    return digester.digest(answer.result), is_error


def examined_large(answer: Answer, digester: Digester) -> tuple[str, bool]:
    """The same of a large one.

    Without a search first: of a large text that costs more than to decode it, which makes nothing
    but the one member.
    """
    return digester.digest(answer.result), answer.tool and _decodes_to_error(answer.result)


class _ToolResult(msgspec.Struct, rename="camel"):
    is_error: bool = False


_decode_tool_result = msgspec.json.Decoder(_ToolResult).decode


def _says_error(encoded: bytes) -> bool:
    return _IS_ERROR in encoded and _decodes_to_error(encoded)


def _decodes_to_error(encoded: bytes | memoryview) -> bool:
    try:
        return _decode_tool_result(encoded).is_error
    except (msgspec.DecodeError, RecursionError):
        return False
