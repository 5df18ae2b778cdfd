"""`gateway serve`: the gateway as a shared service over streamable HTTP."""

import asyncio
import contextlib
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import uvicorn

from gateway.cli.running import on_signals, require_agent, run
from gateway.config.load import Loaded, load
from gateway.config.settings import HttpSettings
from gateway.errors import UserError
from gateway.identity.identity import Identity
from gateway.relay.service import GatewayService
from gateway.relay.wiring import open_gateway
from gateway.transports.http_server import HttpLimits, HttpServer
from gateway.wire.methods import HANDSHAKE_REVISIONS

_LOOPBACK = frozenset(("127.0.0.1", "localhost", "[::1]"))
_EVERYWHERE = frozenset(("0.0.0.0", "::"))  # noqa: S104 - compared with, not bound to


@click.command(name="serve")
@click.option("--host", metavar="ADDRESS", help="Where to listen. Default: 127.0.0.1.")
@click.option("--port", type=click.IntRange(0, 65535), help="Default: 8750; 0 takes a free one.")
@click.option("--agent", metavar="NAME", help="The agent that calls. Default: default_agent.")
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The configuration. Default: gateway.yaml here or above, else .mcp.json.",
)
def command(host: str | None, port: int | None, agent: str | None, config: Path | None) -> int:
    """Put the gateway in front of every upstream, over HTTP.

    /UPSTREAM/mcp mirrors one upstream, /mcp serves all of them with tools named UPSTREAM__TOOL.
    /healthz says that the process lives, /readyz that calls can be recorded and so be served.
    """
    loaded = load(config, cwd=Path.cwd())
    identity = require_agent(loaded, agent)
    http = loaded.settings.http
    bound = http.host if host is None else host
    hosts = _accepted_hosts(bound, http)
    return run(_serve(loaded, identity, bound, http.port if port is None else port, hosts))


def _accepted_hosts(bound: str, http: HttpSettings) -> frozenset[str]:
    named = frozenset(name.lower() for name in http.allowed_hosts)
    if bound in _EVERYWHERE and not named:
        raise UserError(
            f"listening on {bound} needs http.allowed_hosts: the names under which clients reach "
            "this host"
        )
    own = f"[{bound}]" if ":" in bound else bound
    return named | (_LOOPBACK if own in _LOOPBACK else frozenset((own.lower(),)))


class _Server(uvicorn.Server):
    """uvicorn, less its own signal handling: sessions are ended before it stops.

    `listening` is set once it takes connections.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _serve(
    loaded: Loaded, identity: Identity, host: str, port: int, hosts: frozenset[str]
) -> int:
    local = hosts <= _LOOPBACK
    gateway, journal = open_gateway(loaded, durability="process" if local else "power")
    service = GatewayService(gateway, identity, loaded.settings.upstreams)
    limits = HttpLimits(
        max_message_bytes=loaded.settings.limits.max_message_bytes,
        hosts=hosts,
        origins=frozenset(origin.lower() for origin in loaded.settings.http.allowed_origins),
        revisions=frozenset(HANDSHAKE_REVISIONS),
    )
    app = HttpServer(service, limits)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http="httptools",
        loop="none",
        lifespan="off",
        log_level="error",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=3,
    )
    server = _Server(config)
    stopping: list[asyncio.Task[None]] = []

    async def stop() -> None:
        await app.close()
        server.should_exit = True

    def begin_stop(reason: str) -> None:
        if not stopping:
            stopping.append(asyncio.get_running_loop().create_task(stop()))

    on_signals(begin_stop)
    serving = asyncio.get_running_loop().create_task(server.serve())
    listening = asyncio.get_running_loop().create_task(server.listening.wait())
    await asyncio.wait({serving, listening}, return_when=asyncio.FIRST_COMPLETED)
    if server.started:
        _announce(service, server, identity, local=local)
    try:
        await serving
    except SystemExit:
        raise UserError(
            f"cannot listen on {host}:{port}; name a free --port and an address of this host"
        ) from None
    finally:
        listening.cancel()
        await app.close()
        gateway.recorder.flush()
        journal.close()
    return 0


def _announce(
    service: GatewayService, server: uvicorn.Server, identity: Identity, *, local: bool
) -> None:
    address = server.servers[0].sockets[0].getsockname()
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    for path in service.paths:
        sys.stderr.write(f"Serving http://{host}:{address[1]}{path} as {identity.agent}\n")
    if not local:
        sys.stderr.write(
            "Warning: this address is not loopback, and whoever reaches it is served without a "
            "credential\n"
        )
    sys.stderr.flush()
