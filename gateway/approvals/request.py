"""What a person is asked, and what is answered: the two files of an approval."""

import re
from typing import Final, Literal, TypeAlias

import msgspec

from gateway.policy.approval import Known, Way

MAX_NAME_CHARS: Final = 200
_ID: Final = re.compile(r"[0-9a-f]{16}")

Said: TypeAlias = Literal["approved", "denied", "closed"]
"""What an answer says. "closed": the gateway takes none any more."""


class AskingRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A rule that asks a person, and where it stands."""

    name: str
    file: str
    line: int
    message: str = ""


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A call that waits for a person.

    `text` is what the person sees, `headline` its first line: bounded, without secrets, with
    nothing in them that does not show itself; still, a model wrote parts of them. `ways` are those
    in which an answer counts, `remember` for how long it may be given. Times are in seconds since
    1970.
    """

    id: str
    call: str
    session: str
    agent: str
    identified: str
    tool: str
    rules: tuple[AskingRule, ...]
    headline: str
    text: str
    ways: tuple[Way, ...]
    remember: tuple[str, ...]
    asked_s: float
    expires_s: float
    configuration: str = ""
    """The path of gateway.yaml, "" where there is none."""
    digest: str = ""
    """Of the file that this was read from; an answer names it."""


class Answer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was answered, by whom and through which way; `request` is the digest of what they saw.

    `reason` is why it was closed.
    """

    id: str
    request: str
    said: Said
    by: str = ""
    way: Way | None = None
    known: Known = "authenticated"
    remember: str = "call"
    reason: str = ""
    time_s: float = 0.0

    @property
    def flaw(self) -> str:
        """Why this is no answer of a person, "" where it is one."""
        if self.said == "closed":
            return self.reason or "it was closed"
        if self.way is None:
            return "the answer does not say which way it came"
        if not self.by or len(self.by) > MAX_NAME_CHARS or not self.by.isprintable():
            return "the answer does not say who gave it"
        return ""


def is_id(text: str) -> bool:
    """Whether a text is the id of an approval."""
    return _ID.fullmatch(text) is not None
