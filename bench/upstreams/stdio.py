"""The echo upstream on stdin and stdout: one thread, blocking, no event loop."""

import argparse
import os

from bench.upstreams.answers import Answers

_CHUNK_BYTES = 1 << 16
_JOINED_BYTES = 1 << 16


def main() -> None:
    """Answer until the end of input."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tools", type=int, default=10)
    answers = Answers(parser.parse_args().tools)
    pending: list[bytes] = []
    while chunk := os.read(0, _CHUNK_BYTES):
        *lines, rest = chunk.split(b"\n")
        if lines:
            lines[0] = b"".join((*pending, lines[0]))
            pending.clear()
        if rest:
            pending.append(rest)
        _answer_all(answers, lines)


def _answer_all(answers: Answers, lines: list[bytes]) -> None:
    """Answer in order; small answers leave in one write, as they would in any good server."""
    outgoing: list[bytes] = []
    size_bytes = 0
    for line in lines:
        if not line:
            continue
        parts = answers.to(line)
        if parts is None:
            continue
        outgoing += (*parts, b"\n")
        size_bytes += sum(map(len, parts))
        if size_bytes > _JOINED_BYTES:
            _write(outgoing)
            outgoing, size_bytes = [], 0
    if outgoing:
        _write(outgoing)


def _write(parts: list[bytes]) -> None:
    if sum(map(len, parts)) <= _JOINED_BYTES:
        parts = [b"".join(parts)]
    for part in parts:
        view = memoryview(part)
        while view:
            view = view[os.write(1, view) :]


if __name__ == "__main__":
    main()
