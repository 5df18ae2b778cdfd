"""`gateway serve`: the gateway as a shared service over streamable HTTP."""

import asyncio
import os
import sys
from pathlib import Path

import click

from gateway.cli.running import on_signals, reloading, require_agent, run
from gateway.cli.token import tokens_path
from gateway.cli.trust import agent_shell
from gateway.config.load import Loaded, load
from gateway.config.settings import Durability, HttpSettings
from gateway.console.opening import MountedConsole, access_to, mount
from gateway.errors import UserError
from gateway.identity.bearer import TokenBook
from gateway.identity.identity import SHARED, Identity, of_process
from gateway.relay.gateway import Gateway
from gateway.relay.scraping import Scraping
from gateway.relay.service import GatewayService
from gateway.relay.wiring import open_gateway
from gateway.telemetry.metering import Metering
from gateway.transports.http_listener import HttpListener
from gateway.transports.http_server import HttpLimits, HttpServer
from gateway.wire.methods import HANDSHAKE_REVISIONS

_LOOPBACK = frozenset(("127.0.0.1", "localhost", "[::1]"))
_EVERYWHERE = frozenset(("0.0.0.0", "::"))  # noqa: S104 - compared with, not bound to
_CLOSE_GRACE_S = 3.0
"""How long answers under way may take once every session has ended."""


@click.command(name="serve")
@click.option("--host", metavar="ADDRESS", help="Where to listen. Default: 127.0.0.1.")
@click.option("--port", type=click.IntRange(0, 65535), help="Default: 8750; 0 takes a free one.")
@click.option(
    "--agent",
    metavar="NAME",
    help="The agent of callers without a token, where http.anonymous lets them in. "
    "Default: default_agent.",
)
@click.option(
    "--hook",
    is_flag=True,
    help="The client's hook (`gateway hook`) says who calls without a token, call by call.",
)
@click.option(
    "--trusted",
    is_flag=True,
    help="Take the configuration and the agent files as they are: for a service whose files its "
    "callers cannot write. Default: what was accepted with `gateway trust`.",
)
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The configuration. Default: gateway.yaml here or above, else .mcp.json.",
)
def command(
    host: str | None,
    port: int | None,
    agent: str | None,
    hook: bool,
    trusted: bool,
    config: Path | None,
) -> int:
    """Put the gateway in front of every upstream, over HTTP.

    /UPSTREAM/mcp mirrors one upstream, /mcp serves all of them with tools named UPSTREAM__TOOL. A
    bearer token (`gateway token create`) says which agent calls; a token of several agents needs
    /agents/NAME in front of the path. /healthz says that the process lives, /readyz that calls can
    be recorded and so be served.
    """
    loaded = load(config, cwd=Path.cwd(), trusted=trusted)
    http = loaded.settings.http
    bound = http.host if host is None else host
    hosts = _accepted_hosts(bound, http)
    anonymous = _anonymous(loaded, agent, hook=hook, local=hosts <= _LOOPBACK)
    book = TokenBook.open(tokens_path(loaded.settings))
    listening = (bound, http.port if port is None else port)
    return run(_serve(loaded, config, trusted, anonymous, book, listening, hosts))


def _accepted_hosts(bound: str, http: HttpSettings) -> frozenset[str]:
    named = frozenset(name.lower() for name in http.allowed_hosts)
    if bound in _EVERYWHERE and not named:
        raise UserError(
            f"listening on {bound} needs http.allowed_hosts: the names under which clients reach "
            "this host"
        )
    own = f"[{bound}]" if ":" in bound else bound
    return named | (_LOOPBACK if own in _LOOPBACK else frozenset((own.lower(),)))


def _anonymous(loaded: Loaded, agent: str | None, *, hook: bool, local: bool) -> Identity | None:
    """Who calls without a token; None where nobody may."""
    path = loaded.settings.path or None
    if loaded.settings.http.anonymous is None:
        if hook or agent is not None:
            raise UserError(
                "--agent and --hook are about callers without a token, and http.anonymous does not "
                "let them in; set it to loopback, or create a token (`gateway token create`)",
                path=path,
            )
        return None
    if not local:
        raise UserError(
            "http.anonymous lets callers on this host in without a token, which cannot be told "
            "from callers through a proxy on it; remove it, or listen on loopback alone",
            path=path,
        )
    if hook and agent is not None:
        raise click.UsageError("--agent names the one agent that calls, --hook tells many apart.")
    if hook:
        return SHARED
    named = of_process(agent, loaded.settings.default_agent)
    return named if named.agent is None else require_agent(loaded, agent)


async def _serve(
    loaded: Loaded,
    config: Path | None,
    trusted: bool,
    anonymous: Identity | None,
    book: TokenBook,
    listening: tuple[str, int],
    hosts: frozenset[str],
) -> int:
    host, port = listening
    durability: Durability = "process" if hosts <= _LOOPBACK else "power"
    person = not agent_shell(os.environ)
    access = access_to(loaded.settings, local=hosts <= _LOOPBACK, person=person)
    running = open_gateway(loaded, durability=durability, hook=anonymous is SHARED)
    upstreams = loaded.settings.upstreams
    scraping = _scraping(running.gateway, loaded.settings.http, local=hosts <= _LOOPBACK)
    service = GatewayService(
        running.gateway, upstreams, book, anonymous=anonymous, scraping=scraping
    )
    limits = HttpLimits(
        max_message_bytes=loaded.settings.limits.max_message_bytes,
        hosts=hosts,
        origins=frozenset(origin.lower() for origin in loaded.settings.http.allowed_origins),
        revisions=frozenset(HANDSHAKE_REVISIONS),
    )
    console = None if access is None else mount(running, access)
    app = HttpServer(service, limits, None if console is None else console.pages)
    listener = HttpListener(app, max_body_bytes=limits.max_message_bytes)
    stop = asyncio.Event()
    on_signals(lambda reason: stop.set())
    reloader = reloading(config, loaded, running, trusted=trusted)
    try:
        try:
            await listener.start(host, port)
        except OSError:
            raise UserError(
                f"cannot listen on {host}:{port}; name a free --port and an address of this host"
            ) from None
        reloader.start()
        _announce(service, listener, anonymous, console)
        await stop.wait()
        listener.stop_accepting()
    finally:
        reloader.stop()
        await app.close()
        await listener.close(_CLOSE_GRACE_S)
        running.close()
    return 0


def _scraping(gateway: Gateway, http: HttpSettings, *, local: bool) -> Scraping | None:
    """Who may read the metrics; None where nothing is counted."""
    if http.metrics == "off":
        return None
    metering = Metering(lambda: gateway.in_force.snapshot)
    gateway.recorder.watches += (metering,)
    # Callers through a proxy on this host cannot be told from callers on it.
    readers = "token" if http.metrics == "loopback" and not local else http.metrics
    return Scraping(gateway, metering, readers)


def _announce(
    service: GatewayService,
    listener: HttpListener,
    anonymous: Identity | None,
    console: MountedConsole | None,
) -> None:
    host, port = listener.address
    if ":" in host:
        host = f"[{host}]"
    callers = "to bearers of a token"
    if anonymous is SHARED:
        callers += " and to whom the client's hook names"
    elif anonymous is not None:
        callers += f" and as {anonymous.agent or 'the agent of the path'} to this host"
    for path in service.paths:
        sys.stderr.write(f"Serving http://{host}:{port}{path} {callers}\n")
    sys.stderr.flush()
    if console is not None:
        console.announce(f"http://{host}:{port}")
