"""Verifies the Authorization headers of a request against the store of tokens."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from gateway.errors import UserError
from gateway.identity.tokens import (
    FORM,
    Signature,
    StoredToken,
    check_store,
    read_token,
    signature_of,
)

REALM: Final = "mcp-tool-gateway"
LOOK_AGAIN_S: Final = 0.5
"""For how long a running service trusts what it last saw of a token's file."""

_BEARER: Final = re.compile(rb"(?i:bearer) +(%s)" % FORM.encode())


class Bearer(msgspec.Struct, frozen=True):
    """Whoever holds the token `id`: may act as one of `agents`, until `expires_s` (None: ever)."""

    id: str
    agents: tuple[str, ...]
    expires_s: float | None


class Rejected(msgspec.Struct, frozen=True):
    """No valid token: the answer is `status` with `challenge` as WWW-Authenticate.

    `missing` says that there was no Authorization header at all; only then may a request go on as
    an anonymous one. `message` is for the caller and tells nothing about what exists, `reason` for
    the operator alone.
    """

    missing: bool
    message: str
    challenge: str
    reason: str
    status: int = 401


def challenge(error: str | None = None, description: str = "") -> str:
    """The value of a WWW-Authenticate header (RFC 6750, section 3).

    `description` has neither quotes nor backslashes.
    """
    if error is None:
        return f'Bearer realm="{REALM}"'
    return f'Bearer realm="{REALM}", error="{error}", error_description="{description}"'


class TokenBook:
    """The tokens of one configuration as a running service uses them.

    A token that is created counts at once, one that is revoked no longer than `LOOK_AGAIN_S`.
    `clock` is the wall clock, `monotonic` says when to look at files again; both in seconds.
    """

    def __init__(
        self,
        directory: Path,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory = directory
        self._clock = clock
        self._monotonic = monotonic
        self._kept: dict[str, _Kept] = {}
        self._problem: str | None = None
        self._checked_until_s = float("-inf")

    @classmethod
    def open(cls, directory: Path) -> "TokenBook":
        """The book over the store `directory`, which need not exist yet.

        Raises UserError when the store cannot be used.
        """
        check_store(directory)
        return cls(directory)

    def verify(self, authorization: tuple[bytes, ...]) -> Bearer | Rejected:
        """Who sends a request with these Authorization headers: the values of all that it has."""
        if not authorization:
            return _NO_CREDENTIALS
        if len(authorization) > 1:
            return _REPEATED
        value = authorization[0].strip(b" \t")
        if value.partition(b" ")[0].lower() != b"bearer":
            return _OTHER_SCHEME
        credentials = _BEARER.fullmatch(value)
        if credentials is None:
            return _rejected("the token is malformed")
        try:
            stored = self._find(credentials[2].decode("ascii"))
        except UserError as error:
            return _rejected(error.message)
        # Ids are no secret, so how long it takes to find none may show.
        if stored is None or not stored.matches(credentials[1]):
            return _rejected("there is no such token, or it was revoked")
        token = stored.token
        if token.expired(self._clock()):
            return _rejected(f"the token {token.id} has expired")
        return Bearer(token.id, token.agents, token.expires_s)

    def valid(self, identifier: str) -> bool:
        """Whether a token that was verified before is one still."""
        try:
            stored = self._find(identifier)
        except UserError:
            return False
        return stored is not None and not stored.token.expired(self._clock())

    def problem(self) -> str | None:
        """Why no token can be verified at the moment, or None."""
        now_s = self._monotonic()
        if now_s >= self._checked_until_s:
            self._checked_until_s = now_s + LOOK_AGAIN_S
            try:
                check_store(self._directory)
                self._problem = None
            except UserError as error:
                self._problem = f"the tokens cannot be used: {error.message}"
        return self._problem

    def _find(self, identifier: str) -> StoredToken | None:
        """What is kept under an id; raises UserError when that cannot be told or relied upon."""
        problem = self.problem()
        if problem is not None:
            raise UserError(problem)
        now_s = self._monotonic()
        kept = self._kept.get(identifier)
        if kept is not None and now_s < kept.until_s:
            return kept.stored
        try:
            if kept is None or kept.signature != signature_of(self._directory, identifier):
                kept = _Kept(*read_token(self._directory, identifier), until_s=0)
        except FileNotFoundError:
            self._kept.pop(identifier, None)
            return None
        except UserError as error:
            self._kept.pop(identifier, None)
            raise UserError(f"the file of the token {identifier}: {error.message}") from error
        kept.until_s = now_s + LOOK_AGAIN_S
        # Only what exists is kept, so made-up ids cannot fill the memory.
        self._kept[identifier] = kept
        return kept.stored


class _Kept(msgspec.Struct):
    """What a service knows of a token, and until when it need not look at the file again."""

    stored: StoredToken
    signature: Signature
    until_s: float


def _rejected(
    reason: str,
    *,
    error: str = "invalid_token",
    message: str = "The token is malformed, unknown, expired or revoked",
) -> Rejected:
    return Rejected(False, message, challenge(error, message), reason)


_NO_CREDENTIALS: Final = Rejected(
    True, "A bearer token is required", challenge(), "no Authorization header"
)
# To a caller that does not know what is wanted, RFC 6750 (3.1) has no error code told.
_OTHER_SCHEME: Final = Rejected(
    False, "A bearer token is required", challenge(), "the Authorization header has no bearer token"
)
# RFC 6750 suggests 400. But what is not verified is to look the same to everybody: 401.
_REPEATED: Final = _rejected(
    "more than one Authorization header",
    error="invalid_request",
    message="There is more than one Authorization header",
)
