"""`gateway init`: puts the gateway between the clients of this project and their servers."""

import os
import sys
from functools import partial
from pathlib import Path

import click
import msgspec

from gateway.cli.output import escape, print_line
from gateway.errors import UserError
from gateway.install.choices import OBSERVE, Choices
from gateway.install.clients import CLIENTS, Client, project_root
from gateway.install.disk import Disk
from gateway.install.installing import install, resume
from gateway.install.ledger import Ledger
from gateway.install.planning import FileEdit, Planner, Proposal
from gateway.install.program import find_program
from gateway.install.showing import diff_of

EXIT_FINDINGS = 1
_STANDING = "The name of an agent, or observe: everything passes and is recorded."


@click.command(name="init")
@click.option(
    "--client",
    "clients",
    type=click.Choice(list(CLIENTS)),
    multiple=True,
    help="Only this client; may be repeated. Default: all.",
)
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--enforce", is_flag=True, help="Refuse from the start, instead of observing first.")
@click.option("--agent", metavar="NAME", help="The agent of clients that cannot say who calls.")
@click.option("--main-thread", metavar="NAME", help=f"Who the session itself is. {_STANDING}")
@click.option("--builtin-agents", metavar="NAME", help=f"Who built-in agents are. {_STANDING}")
def command(
    clients: tuple[Client, ...],
    dry_run: bool,
    yes: bool,
    enforce: bool,
    agent: str | None,
    main_thread: str | None,
    builtin_agents: str | None,
) -> int:
    """Put the gateway between the clients of this project and their servers.

    Finds what Claude Code, VS Code, Cursor and Claude Desktop start for this project and for you,
    copies it into gateway.yaml, has the clients start the gateway under the same names, and moves
    secrets to files of your own. Shows all of it as a diff first. `gateway uninstall` takes it
    back. The exit code is 1 if something needs your attention.
    """
    home = Path.home()
    root = project_root(Path.cwd(), home)
    disk = Disk()
    ledger = Ledger.of_project(root, os.environ, disk)
    asking = sys.stdin.isatty() and not yes and not dry_run
    if dry_run:
        previous = ledger.read()
        if previous is not None and previous.state != "done":
            print_line("A run that was cut off is not finished; init without --dry-run does that.")
    else:
        with ledger.locked():
            previous, told = resume(ledger)
        for sentence in told:
            print_line(sentence)
    choices = Choices(
        clients=frozenset(clients),
        enforce=enforce,
        agent=agent,
        main_thread=main_thread or OBSERVE,
        builtin_agents=builtin_agents or OBSERVE,
    )
    planner = partial(Planner, root, home, os.environ, program=find_program(os.environ), disk=disk)
    proposal = planner(choices=choices).propose()
    _print_found(proposal)
    if asking and proposal.agents and any(_is_new_config(edit) for edit in proposal.edits):
        choices = msgspec.structs.replace(
            choices,
            main_thread=main_thread or _asked("the session itself"),
            builtin_agents=builtin_agents or _asked("the client's built-in agents"),
        )
        proposal = planner(choices=choices).propose()
    _print_diff(proposal)
    if not proposal.edits:
        print_line("Nothing to change.")
    elif dry_run:
        print_line("Nothing was changed: --dry-run.")
    else:
        if not yes:
            _confirm(asking=asking)
        with ledger.locked():
            for sentence in install(proposal, previous, ledger):
                print_line(sentence)
        _print_next(proposal, enforce=enforce)
    return EXIT_FINDINGS if proposal.broken or _errors(proposal) else 0


def _is_new_config(edit: FileEdit) -> bool:
    return edit.kind == "config" and edit.before is None


def _asked(whom: str) -> str:
    question = f"Which agent's list holds for {whom}? (a name, or {OBSERVE})"
    answer: str = click.prompt(question, OBSERVE)
    return answer


def _confirm(*, asking: bool) -> None:
    if not asking:
        raise UserError(
            "nothing was changed: this is not a terminal, so nobody could be asked; look through "
            "the above and give --yes"
        )
    click.confirm("Make these changes?", abort=True)


def _errors(proposal: Proposal) -> bool:
    return any(finding.severity == "error" for finding in proposal.findings)


def _print_found(proposal: Proposal) -> None:
    print_line(f"Project: {proposal.root}")
    agents = ", ".join(proposal.agents) or "none"
    print_line(f"Agents: {agents}.")
    taken = [server for server in proposal.servers if not server.left]
    if not proposal.servers:
        print_line("No client has a server that is started or reached for this project.")
    for place in dict.fromkeys(server.place for server in proposal.servers):
        names = [server.name for server in taken if server.place is place]
        if names:
            label = CLIENTS[place.client]
            print_line(f"{label}, {place.path}: {', '.join(names)}")
    left = [server for server in proposal.servers if server.left]
    if left or proposal.broken:
        print_line("Left alone:")
    for server in left:
        print_line(f"  {server.name} ({server.place.path}): {server.left}")
    for error in proposal.broken:
        print_line(f"  {error}")
    for finding in proposal.findings:
        print_line(
            f"{finding.path}:{finding.line}: {finding.severity}: {finding.message} [{finding.code}]"
        )
    for note in proposal.notes:
        print_line(f"Note: {note}")


def _print_diff(proposal: Proposal) -> None:
    colored = sys.stdout.isatty()
    for edit in proposal.edits:
        click.echo()
        for line in diff_of(edit, proposal):
            shown = escape(line)
            if colored:
                shown = click.style(shown, fg=_COLORS.get(line[:1]))
            click.echo(shown)
    if proposal.edits:
        click.echo()


_COLORS = {"+": "green", "-": "red", "@": "cyan"}


def _print_next(proposal: Proposal, *, enforce: bool) -> None:
    count = len(proposal.edits)
    print_line(f"Done: {count} file{'s' if count != 1 else ''} changed. Restart the clients.")
    steps = (
        "gateway doctor      checks that everything works",
        "gateway audit tail  shows the calls",
        *(() if enforce else ("gateway enforce     refuses what it only recorded so far",)),
        "gateway uninstall   takes all of it back",
    )
    print_line("Next:")
    for step in steps:
        print_line(f"  {step}")
