"""Who may open the console: sessions, and the two ways to get one.

On loopback a link is printed where the gateway was started; it works once and not for long. Where
the configuration has tokens, whoever enters one gets a session of that token's role. Of all these
secrets only digests are kept, in memory: a gateway that starts again has no sessions.
"""

import hmac
import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Literal, TypeAlias

import msgspec

Role: TypeAlias = Literal["reader", "approver"]
"""A reader sees everything and changes nothing; an approver also answers approvals."""

LINK_S = 600.0
LINK_PAUSE_S = 10.0
"""How long after a link the next one can be asked for."""
MAX_SESSIONS = 256
IDLE_S = 2 * 3600.0
MAX_FAILURES = 10
FAILURES_S = 60.0
"""So many wrong tokens from one address in so long; then none is looked at, right or wrong."""
_MAX_PEERS = 1024
_SECRET_BYTES = 32


class Session(msgspec.Struct):
    """Somebody who is in. `csrf` has to come with whatever changes something."""

    role: Role
    user: str
    csrf: str
    ends_s: float
    idle_s: float

    @property
    def approves(self) -> bool:
        """Whether it may answer approvals."""
        return self.role == "approver"


class Opened(msgspec.Struct, frozen=True):
    """`secret` is the value of the session's cookie."""

    secret: str
    session: Session


class NotOpened(msgspec.Struct, frozen=True):
    """Why nobody got in. `wait_s`: for how long nothing from this address is looked at."""

    reason: str
    wait_s: float = 0.0


class Access:
    """`tokens` are the secrets by role; `user` is whoever started the gateway, None where no links
    are given; `link_role` is the role of who follows one; `clock` counts seconds."""

    def __init__(
        self,
        tokens: Mapping[Role, str],
        *,
        user: str | None,
        session_s: float,
        link_role: Role = "approver",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tokens = {role: _digest(token) for role, token in tokens.items()}
        self._user = user
        self._link_role = link_role
        self._session_s = session_s
        self._clock = clock
        self._sessions: dict[bytes, Session] = {}
        self._link: tuple[bytes, float] | None = None
        self._next_link_s = float("-inf")
        self._failures: dict[str, deque[float]] = {}

    @property
    def links(self) -> bool:
        """Whether a link can be printed."""
        return self._user is not None

    @property
    def tokens(self) -> bool:
        """Whether a token can be entered."""
        return bool(self._tokens)

    def new_link(self) -> str | None:
        """The code of a new link, in place of the one before; None where it is too early."""
        now_s = self._clock()
        if self._user is None or now_s < self._next_link_s:
            return None
        self._next_link_s = now_s + LINK_PAUSE_S
        code = secrets.token_urlsafe(_SECRET_BYTES)
        self._link = _digest(code), now_s + LINK_S
        return code

    def follow_link(self, code: str) -> Opened | NotOpened:
        """Open a session for whoever has the code of the link."""
        link, given = self._link, _digest(code)
        if self._user is None or link is None or not hmac.compare_digest(link[0], given):
            return NotOpened("the link is not valid, or was used already")
        self._link = None
        if self._clock() > link[1]:
            return NotOpened("the link has expired")
        return self._open(self._link_role, self._user)

    def enter_token(self, token: str, peer: str) -> Opened | NotOpened:
        """Open a session for whoever has a token; `peer` is the address it comes from."""
        now_s = self._clock()
        failures = self._failures.get(peer)
        while failures and failures[0] <= now_s - FAILURES_S:
            failures.popleft()
        if failures is not None and len(failures) >= MAX_FAILURES:
            return NotOpened("too many wrong tokens", failures[0] + FAILURES_S - now_s)
        given = _digest(token)
        # All are compared, so that the time says nothing about which one came close.
        matching = [
            role for role, known in self._tokens.items() if hmac.compare_digest(known, given)
        ]
        if matching:
            self._failures.pop(peer, None)
            role: Role = "approver" if "approver" in matching else "reader"
            return self._open(role, f"{role} token")
        if failures is None:
            if len(self._failures) >= _MAX_PEERS:
                del self._failures[next(iter(self._failures))]
            failures = self._failures[peer] = deque()
        failures.append(now_s)
        return NotOpened("the token is not valid")

    def session(self, secret: str) -> Session | None:
        """The session of a cookie, if it is open still."""
        key = _digest(secret)
        session = self._sessions.get(key)
        if session is None:
            return None
        now_s = self._clock()
        if now_s >= min(session.ends_s, session.idle_s):
            del self._sessions[key]
            return None
        session.idle_s = now_s + IDLE_S
        return session

    def end(self, secret: str) -> None:
        """End the session of a cookie."""
        self._sessions.pop(_digest(secret), None)

    def _open(self, role: Role, user: str) -> Opened:
        now_s = self._clock()
        for key in [key for key, each in self._sessions.items() if now_s >= each.ends_s]:
            del self._sessions[key]
        while len(self._sessions) >= MAX_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        session = Session(
            role, user, secrets.token_urlsafe(24), now_s + self._session_s, now_s + IDLE_S
        )
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        self._sessions[_digest(secret)] = session
        return Opened(secret, session)


def _digest(secret: str) -> bytes:
    return sha256(secret.encode("utf-8", "surrogatepass")).digest()
