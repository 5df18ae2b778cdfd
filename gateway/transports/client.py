"""What a client-side transport and the session behind it expect of each other."""

from typing import Protocol


class Outlet(Protocol):
    """The way to a client, for what belongs to none of its requests."""

    def send(self, frame: bytes) -> None:
        """Send one message; never blocks, never raises when the client is gone."""

    def pause_reading(self) -> None:
        """Take nothing more from the client for now."""

    def resume_reading(self) -> None:
        """Take from the client again."""


class Reply(Protocol):
    """The way back for one inbound frame.

    Every `expect` is followed by exactly one of `answer`, `reject`, `discard` and `withdraw`.
    """

    def expect(self) -> None:
        """One message of this frame will be answered."""

    def answer(self, frame: bytes, code: int | None = None) -> None:
        """Answer a request; `code` is that of the error, if the answer is one."""

    def reject(self, frame: bytes) -> None:
        """Answer what is no acceptable message (HTTP: status 400)."""

    def discard(self, frame: bytes) -> None:
        """Refuse a message that wants no answer (HTTP: status 400 with `frame`; stdio: nothing)."""

    def withdraw(self) -> None:
        """There will be no answer: the client cancelled its request."""

    def send(self, frame: bytes) -> None:
        """Send a message that belongs to these requests: progress, a question of the upstream's."""


class ClientHandler(Protocol):
    """A client session, seen from its transport.

    `id` is a secret of 128 random bits. `opened` turns True when the client has made itself known
    with an acceptable `initialize`.
    """

    id: str

    @property
    def opened(self) -> bool:
        """See above."""

    def receive(self, frame: bytes, reply: Reply) -> None:
        """Take one inbound frame; returns at once."""

    def oversized(self, size_bytes: int, limit_bytes: int, reply: Reply) -> None:
        """A frame over the size limit was dropped unread."""

    def client_full(self) -> None:
        """The client takes no more for now."""

    def client_drained(self) -> None:
        """The client takes more again."""

    async def close(self, reason: str, grace_s: float) -> None:
        """The client is gone: record what is open, end the upstreams."""
