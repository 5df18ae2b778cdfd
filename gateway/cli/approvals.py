"""`gateway approvals`: a person answers the calls that rules hold for one."""

import os
import sys
import time
from typing import Final

import click

from gateway.approvals.request import Request
from gateway.approvals.store import Store
from gateway.cli.output import escape, print_json_line, print_line, print_table
from gateway.cli.trust import require_person
from gateway.config.directories import approvals_directory
from gateway.errors import UserError
from gateway.identity.person import user_name

_TAKEN_S: Final = 5.0
"""How long the gateway has to see an answer, before it is said that it seems to be gone."""
_LOOK_EVERY_S: Final = 0.05
_SHORTEST_ID: Final = 4

_as_json: Final = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")


@click.group(name="approvals")
def command() -> None:
    """List the calls that wait for a person, and answer them.

    A rule with `effect: ask` holds a call until a person says yes to this very call, with these
    arguments. Shown are the calls held by every gateway that runs as this user.
    """


@command.command(name="list", short_help="The calls that wait.")
@_as_json
def show_all(as_json: bool) -> int:
    """List the calls that wait for a person, the oldest first."""
    waiting = Store.open(approvals_directory()).pending()
    if as_json:
        for request in waiting:
            print_json_line(request)
    elif waiting:
        columns = ("id", "agent", "tool", "rules", "expires in")
        print_table(columns, (_row(request) for request in waiting))
    else:
        print_line("No call waits for a person.")
    return 0


@command.command(short_help="One call that waits, with its arguments.")
@click.argument("identifier", metavar="ID")
@_as_json
def show(identifier: str, as_json: bool) -> int:
    """Show what a call that waits would do. ID may be the beginning of one."""
    request = _find(Store.open(approvals_directory()), identifier)
    if as_json:
        print_json_line(request)
    else:
        _print(request)
    return 0


@command.command(short_help="Let one call go on.")
@click.argument("identifier", metavar="ID")
@click.option(
    "--remember",
    default="call",
    metavar="SPAN",
    help="How long the answer holds for the very same call: call (the default), session, or "
    "minutes, as `approvals.remember` in gateway.yaml offers them: 15m.",
)
@_as_json
def approve(identifier: str, remember: str, as_json: bool) -> int:
    """Let the call ID go on, after it was shown here and you said yes to it.

    It goes on only if the policy in force by then still lets it.
    """
    store, request = _for_person(identifier, as_json)
    if remember not in request.remember:
        raise UserError(f"--remember can be {', '.join(request.remember)} for this call")
    _print(request, err=as_json)
    held = "" if remember == "call" else f", and the very same one again ({remember})"
    if not click.confirm(f"Let it make this call{held}?", default=False, err=as_json):
        raise UserError("nothing was answered; `gateway approvals deny` refuses the call at once")
    return _answer(store, request, approved=True, remember=remember, as_json=as_json)


@command.command(short_help="Refuse one call.")
@click.argument("identifier", metavar="ID")
@_as_json
def deny(identifier: str, as_json: bool) -> int:
    """Refuse the call ID."""
    store, request = _for_person(identifier, as_json)
    return _answer(store, request, approved=False, remember="call", as_json=as_json)


def _for_person(identifier: str, as_json: bool) -> tuple[Store, Request]:
    """The call to answer, if a person seems to be there; no boundary (docs/boundary.md)."""
    require_person(os.environ, "answering")
    if not sys.stdin.isatty() or not (sys.stderr if as_json else sys.stdout).isatty():
        raise UserError("nothing was answered: run this in a terminal, which shows the call first")
    store = Store.open(approvals_directory())
    return store, _find(store, identifier)


def _answer(store: Store, request: Request, *, approved: bool, remember: str, as_json: bool) -> int:
    by = _person()
    problem = store.answer(request, approved=approved, by=by, way="command", remember=remember)
    if problem:
        raise UserError(f"the answer does not count: {problem}")
    deadline = time.monotonic() + _TAKEN_S
    while not (taken := store.taken(request.id)) and time.monotonic() < deadline:
        time.sleep(_LOOK_EVERY_S)
    said = "approved" if approved else "denied"
    if as_json:
        print_json_line({"id": request.id, "answer": said, "by": by, "taken": taken})
    else:
        print_line(f"{said.capitalize()} as {by}.")
    if not taken:
        click.echo(
            "The gateway that asked has not taken the answer: it seems to be gone.", err=True
        )
    return 0 if taken else 1


def _find(store: Store, identifier: str) -> Request:
    found = [each for each in store.pending() if each.id.startswith(identifier.lower())]
    if len(identifier) < _SHORTEST_ID or not found:
        raise UserError(
            f"no call with the id {identifier!r} waits for a person; `gateway approvals list` "
            "shows those that do"
        )
    if len(found) > 1:
        raise UserError(f"{identifier!r} could be {' or '.join(each.id for each in found)}")
    return found[0]


def _row(request: Request) -> tuple[str, ...]:
    rules = ", ".join(rule.name for rule in request.rules)
    left_s = max(round(request.expires_s - time.time()), 0)
    return (request.id, request.agent, request.tool, rules, f"{left_s} s")


def _print(request: Request, *, err: bool = False) -> None:
    for line in request.text.split("\n"):
        click.echo(escape(line), err=err)
    left_s = max(round(request.expires_s - time.time()), 0)
    click.echo(f"It waits for {left_s} s more.", err=err)


def _person() -> str:
    """The user of the operating system, and who became it, where sudo says so."""
    name = user_name()
    by = os.environ.get("SUDO_USER", "")
    return f"{name} (sudo by {by})" if by and by != name and by.isprintable() else name
