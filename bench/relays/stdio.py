"""The relay with a stdio client: bytes to a child's pipes, or each line as a POST."""

import asyncio
from urllib.parse import urlsplit

from bench.net.client import Headers, Pool
from bench.relays.pipes import Lines, child, read_from, write_to


async def to_stdio(command: list[str]) -> None:
    """Copy bytes both ways."""
    ended = asyncio.Event()
    process = child(command)
    assert process.stdin is not None
    assert process.stdout is not None
    upstream, upstream_flow = await write_to(process.stdin)
    client, client_flow = await write_to(1)
    client_flow.source = await read_from(process.stdout, client.write, ended.set)
    upstream_flow.source = await read_from(0, upstream.write, ended.set)
    await ended.wait()
    upstream.close()


async def to_http(url: str) -> None:
    """Post each line; answers come back as lines, whole."""
    ended = asyncio.Event()
    pool = Pool(url)
    client, _ = await write_to(1)
    start = (
        f"POST {urlsplit(url).path} HTTP/1.1\r\nhost: {pool.host}:{pool.port}\r\n"
        "content-type: application/json\r\naccept: application/json, text/event-stream\r\n"
        "content-length: "
    ).encode()

    def post(line: list[bytes]) -> None:
        body = b"".join(line)
        pool.send(b"%b%d\r\n\r\n%b" % (start, len(body), body), _Line(client))

    await read_from(0, Lines(post).feed, ended.set)
    await ended.wait()
    pool.close()


class _Line:
    """An answer's body, on its way to become a line. Is a Sink."""

    def __init__(self, client: asyncio.WriteTransport) -> None:
        self._client = client
        self._chunks: list[bytes] = []

    def head(self, status: int, headers: Headers) -> None: ...

    def body(self, chunk: bytes) -> None:
        self._chunks.append(chunk)

    def complete(self) -> None:
        if self._chunks:
            self._client.writelines((*self._chunks, b"\n"))

    def lost(self) -> None: ...
