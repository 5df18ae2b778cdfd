"""A session over the pipes of a process."""

import asyncio
from typing import TYPE_CHECKING

from bench.load.messages import INITIALIZED, BadAnswerError, identifier_of, initialize, request
from bench.load.session import Done
from bench.relays.pipes import Lines
from gateway.transports.pipes import PipeReader, PipeWriter

if TYPE_CHECKING:
    import subprocess


class StdioSession:
    """A session with the process whose pipes are given. Is a Session.

    The pipes are read and written as the gateway does it: uvloop's own transports close a
    descriptor twice, and a loop that is closed while somebody else closed it may hang for ever.
    """

    def __init__(self) -> None:
        self._pending: dict[int, Done] = {}
        self._last_id = 0
        self._input: PipeWriter | None = None
        self._output: PipeReader | None = None

    @classmethod
    async def open(
        cls, process: "subprocess.Popen[bytes]", *, timeout_s: float = 60.0
    ) -> "StdioSession":
        """Shake hands. Raises BadAnswerError, TimeoutError."""
        assert process.stdin is not None
        assert process.stdout is not None
        session = cls()
        loop = asyncio.get_running_loop()
        session._input = PipeWriter(
            loop, process.stdin, pause=_nothing, resume=_nothing, broken=_nothing
        )
        session._output = PipeReader(
            loop, process.stdout, Lines(session._line).feed, session._ended
        )
        answered: asyncio.Future[bytes | BadAnswerError]
        answered = loop.create_future()
        session._pending[0] = answered.set_result
        session._write(initialize(0))
        try:
            async with asyncio.timeout(timeout_s):
                answer = await answered
            if isinstance(answer, BadAnswerError):
                raise answer
        except BaseException:
            await session.close()
            raise
        session._write(INITIALIZED)
        return session

    def request(self, method: str, params: bytes, done: Done) -> None:
        """See Session."""
        self._last_id += 1
        self._pending[self._last_id] = done
        self._write(request(self._last_id, method, params))

    async def prepare(self, in_flight: int) -> None:
        """See Session; one pipe takes any number."""

    async def close(self) -> None:
        """See Session."""
        if self._input is not None:
            self._input.abort()
        if self._output is not None:
            self._output.close()

    def _write(self, frame: bytes) -> None:
        if self._input is not None:
            self._input.write(frame, b"\n")

    def _line(self, chunks: list[bytes]) -> None:
        frame = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        identifier = identifier_of(frame)
        done = None if identifier is None else self._pending.pop(identifier, None)
        if done is not None:
            done(frame)

    def _ended(self) -> None:
        pending, self._pending = self._pending, {}
        for done in pending.values():
            done(BadAnswerError("the output ended"))


def _nothing() -> None: ...
