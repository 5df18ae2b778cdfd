"""The `gateway` command: finds the subcommand, and turns what went wrong into an exit code.

Exit codes: 0 fine, 1 findings (the command ran and something needs attention), 2 cannot run
(usage, configuration, surroundings), 130 interrupted, 141 the reader of the output went away.
A subcommand is a module `gateway.cli.NAME` with a click command named `command`; it is imported
only when it is the one asked for, because imports are the start-up time.
"""

import difflib
import importlib
import io
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from gateway.cli import output
from gateway.errors import UserError

EXIT_CANNOT_RUN = 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141

# Name -> one line of help, so that the listing needs none of the modules.
COMMANDS = {
    "init": "Put the gateway between this project's clients and their servers.",
    "enforce": "End observe mode: refuse what was only recorded so far.",
    "uninstall": "Take back what init did, byte for byte.",
    "connect": "Put the gateway between a client and one upstream, over stdio.",
    "serve": "Put the gateway in front of every upstream, over HTTP.",
    "token": "Create, list and revoke the tokens of the HTTP service.",
    "pin": "Note what the tools are now, so that a change withholds them until it is reviewed.",
    "trust": "Accept what the configuration starts and what its agents may use.",
    "approvals": "List the calls that wait for a person, and answer them.",
    "hook": "Answer a client that asks before it runs a tool (its PreToolUse hook).",
    "check": "Check the configuration, the agent files and what the upstreams offer.",
    "doctor": "Look at everything from the client's files to the audit log.",
    "explain": "Say what an agent may do with a tool, and which line decides it.",
    "matrix": "Show what every agent may do with every tool, in one table.",
    "policy": "Test policies, and show what a change of them changes.",
    "agents": "List the agent definitions and what each one may reach.",
    "console": "Show the audit log in a browser on this host.",
    "audit": "Read and search the audit log.",
    "demo": "Watch the gateway allow, refuse and record calls, with nothing configured.",
}


class LazyGroup(click.Group):
    """A group that knows its subcommands by name and imports the one that is used."""

    def __init__(self, *args: Any, commands_help: Mapping[str, str], **options: Any) -> None:
        super().__init__(*args, **options)
        self.commands_help = commands_help

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands_help)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.commands_help:
            return None
        command = importlib.import_module(f"gateway.cli.{cmd_name}").command
        if not isinstance(command, click.Command):
            raise TypeError(f"gateway.cli.{cmd_name}.command is not a click command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in self.commands_help and not name.startswith("-"):
            near = difflib.get_close_matches(name, self.commands_help, 1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            ctx.fail(f"No such command '{output.escape(name)}'.{hint}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # Caught here: click itself would exit with 1, which means findings.
            _discard_output()
            return EXIT_BROKEN_PIPE

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(self.commands_help.items()))


def _print_version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        # Imported here: it costs more than everything else this module needs.
        from importlib.metadata import version

        click.echo(f"mcp-tool-gateway {version('mcp-tool-gateway')}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    commands_help=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
def cli() -> None:
    """A permission gateway between AI agents and the MCP servers they use.

    It lets each agent call the tools that its definition declares, and records every call.
    """


def main() -> None:
    """Run the command line of this process and exit with its code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code. A user's mistake never ends in a traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that cannot show a character gets its escape, not a UnicodeEncodeError.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        result = cli.main(args=list(arguments), prog_name="gateway", standalone_mode=False)
        sys.stdout.flush()
    except UserError as error:
        output.complain(error)
        return EXIT_CANNOT_RUN
    except click.ClickException as error:
        error.show()
        return EXIT_CANNOT_RUN
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        _discard_output()
        return EXIT_BROKEN_PIPE
    # What `ctx.exit(code)` was given, or what the command returned.
    return result if isinstance(result, int) else 0


def _discard_output() -> None:
    """Keep the interpreter's last flush from complaining about the pipe that is gone."""
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
