"""`gateway hook`: the PreToolUse hook of a client; a person only ever asks for its help.

The usual forms of the client's command line do not come this far: see `gateway.cli.entry`.
"""

from pathlib import Path

import click

from gateway.cli.entry import run_hook


@click.command(short_help="Answer a client that asks before it runs a tool (its PreToolUse hook).")
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The configuration; found from the client's project where it is not named.",
)
def command(config: Path | None) -> None:
    """Answer a client that asks before it runs a tool.

    The command of a PreToolUse hook of Claude Code, which `gateway init` installs. It reads the
    host's message from stdin, refuses what the agent may not do, and leaves word of every other
    MCP call for the gateway: that is how it tells subagents apart on one connection. An answer is
    JSON on stdout; no answer leaves the decision to the client.
    """
    run_hook(None if config is None else str(config))
