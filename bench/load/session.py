"""A client's session: what a load loop needs, whatever the transport."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from bench.load.messages import BadAnswerError, result_of

Done = Callable[[bytes | BadAnswerError], None]
"""Takes the frame of an answer, or why there is none."""


class Session(Protocol):
    """An initialized MCP session."""

    def request(self, method: str, params: bytes, done: Done) -> None:
        """Send a request; `done` is called once."""

    async def prepare(self, in_flight: int) -> None:
        """Be ready for so many requests at once."""

    async def close(self) -> None:
        """End the session."""


async def ask(
    session: Session, method: str, params: bytes = b"{}", *, timeout_s: float = 60.0
) -> dict[str, object]:
    """One request and its result. Raises BadAnswerError, TimeoutError."""
    return result_of(await ask_raw(session, method, params, timeout_s=timeout_s))


async def ask_raw(
    session: Session, method: str, params: bytes = b"{}", *, timeout_s: float = 60.0
) -> bytes:
    """One request and the frame that answers it. Raises BadAnswerError, TimeoutError."""
    answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def done(answer: bytes | BadAnswerError) -> None:
        if answered.done():
            return
        if isinstance(answer, bytes):
            answered.set_result(answer)
        else:
            answered.set_exception(answer)

    session.request(method, params, done)
    async with asyncio.timeout(timeout_s):
        return await answered
