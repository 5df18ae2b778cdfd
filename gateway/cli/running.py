"""What the commands that run a gateway share: the agent they serve, and the event loop."""

import asyncio
import gc
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TypeVar

from gateway.cli.output import escape
from gateway.config.load import Loaded
from gateway.config.watch import Reloader
from gateway.errors import UserError
from gateway.identity.identity import Identity, of_process
from gateway.relay.wiring import Running

T = TypeVar("T")

_GC_THRESHOLD = 50_000
_NOT_IN_FORCE = "gateway: the files that changed are not in force, what was before stays: "
_RESTORED = "gateway: the files are again as they are in force"
_SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP")


def require_agent(loaded: Loaded, agent: str | None) -> Identity:
    """The identity that the command line or the configuration names; it must be a usable agent.

    Where decisions are only observed, it may be any or none.
    """
    identity = of_process(agent, loaded.settings.default_agent)
    if loaded.snapshot.observe:
        return identity
    if identity.agent is None:
        if not loaded.accepted:
            raise UserError(
                "nobody has accepted this configuration yet, so its default_agent does not hold; "
                "run `gateway trust` in a terminal of your own",
                path=loaded.settings.path or None,
            )
        raise UserError(
            "no agent is named; give --agent NAME, or set default_agent",
            path=loaded.settings.path or None,
        )
    permissions = loaded.snapshot.agents.get(identity.agent)
    if permissions is None:
        known = ", ".join(loaded.snapshot.agents) or "none"
        raise UserError(
            f"there is no agent {identity.agent!r} in the agent files that are read; "
            f"the defined ones are: {known}",
            path=loaded.settings.path or None,
        )
    if permissions.refusal is not None and not permissions.observed:
        refusal = permissions.refusal
        raise UserError(
            f"the agent {identity.agent!r} may use nothing: {refusal.text}",
            path=refusal.file,
            line=refusal.line,
        )
    return identity


def reloading(
    config: Path | None, loaded: Loaded, running: Running, *, trusted: bool = False
) -> Reloader:
    """Has a running gateway follow its files, once it is started."""

    def report(event: str, refused: str) -> None:
        running.keep(event, refused)
        sys.stderr.write(f"{_NOT_IN_FORCE}{escape(refused)}\n" if refused else f"{_RESTORED}\n")
        sys.stderr.flush()

    return Reloader(config, Path.cwd(), trusted, loaded, running.apply, report)


def run(main: Coroutine[object, object, T]) -> T:
    """Run a command's coroutine on the fastest event loop there is."""
    # What is imported by now stays, and a call leaves few cycles behind: looking for garbage as
    # often as usual costs a tenth of the throughput.
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD)
    try:
        import uvloop
    except ImportError:  # Windows has none
        return asyncio.run(main)
    return uvloop.run(main)


def on_signals(stop: Callable[[str], None]) -> None:
    """Call `stop` with a reason when somebody asks this process to end."""
    loop = asyncio.get_running_loop()
    for name in _SIGNALS:
        number = getattr(signal, name, None)
        if number is not None:
            loop.add_signal_handler(number, stop, f"signal {name}")
