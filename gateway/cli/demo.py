"""`gateway demo`: the shipped example in action, with real servers and nothing configured."""

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

from gateway.audit.calls import Call, Filters
from gateway.audit.index import Index
from gateway.cli import audit, output
from gateway.cli.demo_client import Answer, accept, play
from gateway.cli.demo_scenario import AGENT, GENERATIONS, MIRRORED, UPSTREAMS, Generation, scenario
from gateway.cli.demo_verdict import excerpt, not_started, problems
from gateway.cli.demo_world import World, checkout, running_world
from gateway.errors import UserError

EXIT_FAILED = 1


@click.command(name="demo")
@click.option("--partial", is_flag=True, help="Succeed even if a server cannot be started.")
@click.option(
    "--generation",
    type=click.Choice(GENERATIONS),
    default="newest",
    show_default=True,
    help="The newest server versions, or those whose tools match the declared ones.",
)
def command(partial: bool, generation: Generation) -> int:
    """Watch the gateway allow, refuse and record calls, with nothing configured.

    Starts the four real MCP servers of policies/examples/backend-engineer behind the gateway, with
    a real database and browser and local stand-ins for the services; connects as that agent; calls
    tools that it declares and tools that it does not; and shows the audit log of it. Needs a
    checkout that `make demo` has set up. The exit code is 1 if a server cannot be started, an
    allowed call fails or a refused one passes.
    """
    root = checkout()
    _tell("Starting a database, a website and stand-ins for supabase, firecrawl and context7")
    with running_world(root, generation) as world:
        broken = {name: world.missing[name] for name in UPSTREAMS if name in world.missing}
        if len(broken) == len(UPSTREAMS):
            raise UserError(
                f"no server is installed; run `make demo`, or tests/real/setup --{generation}"
            )
        answers = _play(world, generation)
        directory = world.config.parent / "audit"
        calls = _recorded(directory)
        broken |= not_started(answers)
        found = problems([a for a in answers if a.step.upstream not in broken], calls)
        _show(answers, directory)
        _tell("Ending the servers")
    for name, reason in broken.items():
        _tell(f"The server {name} could not be started: {reason}")
    for problem in found:
        _tell(problem)
    return EXIT_FAILED if found or (broken and not partial) else 0


def _tell(sentence: str) -> None:
    click.echo(output.escape(sentence), err=True)


def _play(world: World, generation: Generation) -> list[Answer]:
    steps = scenario(generation, project_ref=world.project_ref, page_url=world.page_url)
    possible = [step for step in steps if step.upstream not in world.missing]
    _tell("Accepting what it starts and grants: gateway trust")
    accept(world)
    with tempfile.TemporaryFile("w+", errors="replace") as errors:
        try:
            return asyncio.run(play(world, possible, errors, _tell))
        except Exception as error:
            errors.seek(0)
            said = errors.read().strip().splitlines()
            reason = said[-1] if said else repr(error)
            raise UserError(f"the client lost its connection to the gateway: {reason}") from error


def _recorded(directory: Path) -> list[Call]:
    with Index.open(directory) as index:
        index.refresh()
        return index.calls(Filters(agent=AGENT))


def _show(answers: Sequence[Answer], directory: Path) -> None:
    click.echo("\nWhat the client called, and what came of it:\n")
    output.print_table(
        ("CALL", "CONNECT", "WHY", "OUTCOME", "ANSWER"),
        [
            (
                answer.step.tool_id,
                MIRRORED if answer.step.mirrored else "--all",
                answer.step.note,
                _outcome(answer),
                excerpt(answer),
            )
            for answer in answers
        ],
    )
    click.echo("\nThe audit log of these calls, as `gateway audit list` shows it:\n")
    click.get_current_context().invoke(audit.list_calls, directory=directory, agent=AGENT)
    click.echo(
        "\nThis log goes with the demo. Of your own calls: gateway audit list, audit tail -f"
    )


def _outcome(answer: Answer) -> str:
    if not answer.is_error:
        return "allowed"
    return "refused" if answer.step.expected == "refused" else "FAILED"
