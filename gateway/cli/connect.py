"""`gateway connect`: the gateway as the MCP server that a client starts, over stdio."""

import asyncio
import os
from pathlib import Path

import click

from gateway.cli.running import on_signals, reloading, require_agent, run
from gateway.config.files import user_config
from gateway.config.launch import endpoint, launch
from gateway.config.load import Loaded, load
from gateway.config.settings import HttpEntry
from gateway.errors import UserError
from gateway.identity.identity import SHARED, Identity
from gateway.relay.core import SessionCore
from gateway.relay.fronts import StdioFront
from gateway.relay.surface import Aggregate, Mirror, Surface
from gateway.relay.wiring import open_gateway
from gateway.transports.stdio import StdioClient

_DRAIN_S = 5.0
"""How long calls under way may still be answered after the client has closed our input."""
_WATCH_AFTER_S = 0.5
_GRACE_S = 2.0
"""How long upstreams have to end by themselves."""


@click.command(name="connect")
@click.argument("upstream", required=False)
@click.option("--all", "everything", is_flag=True, help="Serve all upstreams, names prefixed.")
@click.option("--agent", metavar="NAME", help="The agent that calls. Default: default_agent.")
@click.option("--hook", is_flag=True, help="The client's hook (`gateway hook`) says who calls.")
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The configuration. Default: gateway.yaml here or above, else .mcp.json.",
)
def command(
    upstream: str | None, everything: bool, agent: str | None, hook: bool, config: Path | None
) -> int:
    """Put the gateway between a client and UPSTREAM, over stdio.

    The client starts this command instead of the server's own. With --all one connection serves
    every upstream, with tools named UPSTREAM__TOOL.
    """
    if everything == (upstream is not None):
        raise click.UsageError("name one UPSTREAM, or give --all.")
    loaded = load(config, cwd=Path.cwd(), trusted=False)
    if config is None and upstream is not None and upstream not in loaded.settings.upstreams:
        # The client starts servers of the user's own in every project.
        own = user_config(os.environ)
        if own.exists():
            config, loaded = own, load(own, cwd=Path.cwd(), trusted=False)
    if hook and agent is not None:
        raise click.UsageError("--agent names the one agent that calls, --hook tells many apart.")
    identity = SHARED if hook else require_agent(loaded, agent)
    surface: Surface
    if upstream is None:
        surface = Aggregate(loaded.settings.upstreams)
    else:
        if upstream not in loaded.settings.upstreams:
            known = ", ".join(loaded.settings.upstreams) or "none"
            raise UserError(
                f"there is no upstream {upstream!r}; the configured ones are: {known}",
                path=loaded.settings.path or None,
            )
        surface = Mirror(upstream)
        # What nobody accepted is not started, so nothing of it is looked up either: a reference
        # may be a command.
        if not loaded.snapshot.upstreams[upstream].held:
            _require_resolvable(loaded, upstream)
    return run(_serve(loaded, config, identity, surface))


def _require_resolvable(loaded: Loaded, upstream: str) -> None:
    """Find a missing variable now, where it is one clear sentence, and not at the first call."""
    entry = loaded.settings.upstreams[upstream]
    if isinstance(entry, HttpEntry):
        endpoint(entry, os.environ, root=loaded.settings.root)
    else:
        launch(entry, os.environ, root=loaded.settings.root)


async def _serve(loaded: Loaded, config: Path | None, identity: Identity, surface: Surface) -> int:
    running = open_gateway(loaded, durability="process", hook=identity is SHARED)
    loop = asyncio.get_running_loop()
    stopped: asyncio.Future[str] = loop.create_future()

    def stop(reason: str) -> None:
        if not stopped.done():
            stopped.set_result(reason)

    on_signals(stop)
    failures: list[str] = []

    def start_failed(reason: str) -> None:
        failures.append(reason)
        stop("the upstream did not start")

    client = StdioClient(loaded.settings.limits.max_message_bytes)
    core = SessionCore(running.gateway, surface, identity, client, "stdio")
    session = StdioFront(core, start_failed=start_failed)
    await client.open(session)
    reloader = reloading(config, loaded, running)
    # Looking costs a moment, and the client's first message is on its way.
    beginning = loop.call_later(_WATCH_AFTER_S, reloader.start)
    await asyncio.wait({stopped, client.ended}, return_when=asyncio.FIRST_COMPLETED)
    if not stopped.done() and client.ended.result():
        settled: asyncio.Future[None] = loop.create_task(client.settled(_DRAIN_S))
        await asyncio.wait((stopped, settled), return_when=asyncio.FIRST_COMPLETED)
    beginning.cancel()
    reloader.stop()
    await client.flush(1.0)
    reason = stopped.result() if stopped.done() else "the client closed the connection"
    await session.close(reason, _GRACE_S)
    await client.flush(1.0)
    running.close()
    if failures:
        raise UserError(failures[0])
    return 0
