"""What the hook answers the client's host (pure)."""

from typing import Final, Literal

import msgspec

NOTHING: Final = b""
"""The client goes on as it would without the hook: its own permission prompts stay in force."""


class _Specific(msgspec.Struct, frozen=True, rename="camel"):
    hook_event_name: str
    permission_decision: Literal["deny", "ask"]
    permission_decision_reason: str


class _Answer(msgspec.Struct, frozen=True, rename="camel"):
    hook_specific_output: _Specific


def refusal(reason: str, effect: Literal["deny", "ask"] = "deny") -> bytes:
    """The tool does not run, or with "ask" not before a person agrees; the model reads `reason`."""
    answer = _Answer(_Specific("PreToolUse", effect, reason))
    try:
        return msgspec.json.encode(answer)
    except UnicodeEncodeError:
        # A file name that is not UTF-8 comes with lone surrogates.
        return refusal(reason.encode("utf-8", "backslashreplace").decode(), effect)
