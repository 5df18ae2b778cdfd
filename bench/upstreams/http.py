"""The echo upstream over streamable HTTP: JSON answers, a session id, the same on every path."""

import argparse
import sys
from itertools import count

import uvloop

from bench.net.server import Request, head, listen, until_abandoned
from bench.upstreams.answers import Answers

_JSON = b"content-type: application/json\r\n"


class EchoServer:
    """Answers requests; sessions are numbers that nobody keeps."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._sessions = count(1)

    def handle(self, request: Request) -> None:
        """Answer one request."""
        if request.method != b"POST":
            request.answer(200 if request.method == b"DELETE" else 405)
            return
        parts = self._answers.to(request.body)
        if parts is None:
            request.answer(202)
            return
        headers = _JSON
        if b"mcp-session-id" not in request.headers:
            headers += b"mcp-session-id: s%d\r\n" % next(self._sessions)
        size_bytes = sum(map(len, parts))
        if size_bytes <= 1 << 16:
            request.connection.write(b"".join((head(200, size_bytes, headers), *parts)))
            return
        request.connection.write(head(200, size_bytes, headers))
        for part in parts:
            request.connection.write(part)


async def serve(port: int, tools: int) -> None:
    """Serve until stdin ends; prints the port when it listens."""
    server = await listen(EchoServer(Answers(tools)).handle, port)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await until_abandoned()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--tools", type=int, default=10)
    options = parser.parse_args()
    uvloop.run(serve(options.port, options.tools))


if __name__ == "__main__":
    main()
