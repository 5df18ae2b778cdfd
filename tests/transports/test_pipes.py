"""Pipes to and from child processes: nothing is lost, and only a full one is made larger."""

import asyncio
import os
import sys
from typing import IO

import pytest

from gateway.transports.pipes import PipeReader, PipeWriter, widen

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks for the size of a pipe")

if sys.platform == "linux":
    import fcntl

LARGE = bytes(range(256)) * 8192


def open_pipe() -> tuple[IO[bytes], IO[bytes]]:
    outgoing, incoming = os.pipe()
    return os.fdopen(outgoing, "rb", 0), os.fdopen(incoming, "wb", 0)


def size_of(pipe: IO[bytes]) -> int:
    return fcntl.fcntl(pipe.fileno(), fcntl.F_GETPIPE_SZ)


@pytest.mark.parametrize(("sent", "widened"), [(b"small", False), (LARGE, True)])
def test_what_is_written_is_read_and_a_full_pipe_is_widened(
    run, sent: bytes, widened: bool
) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        outgoing, incoming = open_pipe()
        before = size_of(outgoing)
        ended = asyncio.Event()
        received: list[bytes] = []
        sizes: list[int] = []

        def take(chunk: bytes) -> None:
            received.append(chunk)
            sizes.append(size_of(outgoing))

        PipeReader(loop, outgoing, take, ended.set)
        calls: list[str] = []
        writer = PipeWriter(
            loop,
            incoming,
            pause=lambda: calls.append("pause"),
            resume=lambda: calls.append("resume"),
            broken=lambda: calls.append("broken"),
        )
        writer.write(sent)
        await asyncio.sleep(0)
        writer.close()
        await asyncio.wait_for(ended.wait(), 10)
        assert b"".join(received) == sent
        assert (sizes[-1] > before) is widened
        assert calls == (["pause", "resume"] if widened else [])

    run(scenario())


def test_only_pipes_can_be_widened_and_nothing_else_is_harmed(tmp_path) -> None:
    outgoing, incoming = open_pipe()
    with outgoing, incoming, (tmp_path / "file").open("wb") as file:
        widen(file.fileno())
        widen(incoming.fileno())
        assert size_of(outgoing) == 1 << 20
        fcntl.fcntl(incoming.fileno(), fcntl.F_SETPIPE_SZ, 4096)
        widen(outgoing.fileno())
        assert size_of(incoming) == 1 << 20
