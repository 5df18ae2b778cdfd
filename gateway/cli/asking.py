"""Asks upstreams what they offer on behalf of a command, and says on a terminal how far that is."""

import asyncio
import sys
from collections.abc import Iterable, Mapping

import click

from gateway.cli.output import escape
from gateway.cli.running import on_signals, run
from gateway.config.settings import Settings
from gateway.relay.survey import Surveyed, survey


def ask_upstreams(settings: Settings, upstreams: Iterable[str]) -> Mapping[str, Surveyed]:
    """What each upstream offers now; nothing that was started for it is left behind.

    Raises click.Abort when somebody asks this process to end.
    """
    names = tuple(upstreams)
    return run(_until_stopped(settings, names)) if names else {}


async def _until_stopped(settings: Settings, upstreams: tuple[str, ...]) -> dict[str, Surveyed]:
    asking = asyncio.get_running_loop().create_task(survey(settings, upstreams, _progressed))
    stopped = False

    def stop(_reason: str) -> None:
        nonlocal stopped
        stopped = True
        asking.cancel()

    on_signals(stop)
    _tell(f"Asking {', '.join(upstreams)} ...")
    try:
        return await asking
    except asyncio.CancelledError:
        if stopped:
            raise click.Abort from None
        raise


def _progressed(result: Surveyed) -> None:
    if result.catalog is None:
        _tell(f"{result.upstream}: no answer")
    else:
        _tell(f"{result.upstream}: {len(result.catalog.tools)} tools")


def _tell(text: str) -> None:
    if sys.stderr.isatty():
        click.echo(escape(text), err=True)
