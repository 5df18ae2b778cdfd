"""The process of `gateway hook`: one message on stdin, the answer on stdout."""

import os
from pathlib import Path

from gateway.hook.message import MAX_MESSAGE_BYTES
from gateway.hook.run import respond

_CHUNK_BYTES = 1024 * 1024


def run(config: str | None) -> None:
    """Read the host's message, and write what is to be answered; any error is the caller's."""
    answer = respond(_read_all(0), config=config, cwd=str(Path.cwd()), environ=os.environ)
    while answer:
        answer = answer[os.write(1, answer) :]


def _read_all(descriptor: int) -> bytes:
    """What is to be read, or as much of it as shows that it is too much."""
    chunks, size_bytes = [], 0
    while size_bytes <= MAX_MESSAGE_BYTES and (chunk := os.read(descriptor, _CHUNK_BYTES)):
        chunks.append(chunk)
        size_bytes += len(chunk)
    return b"".join(chunks)
