"""`gateway doctor`: goes through everything from the client's files to the audit log."""

import asyncio
import os
import shlex
import time
from collections.abc import Iterator
from pathlib import Path

import click

from gateway.cli.output import print_json_line, print_line
from gateway.cli.running import run
from gateway.cli.token import tokens_path
from gateway.config.directories import audit_directory
from gateway.config.files import find
from gateway.config.load import Loaded, load
from gateway.errors import UserError
from gateway.install.agents import inline_servers, read_agents
from gateway.install.clients import agent_directories
from gateway.install.diagnosis import (
    Diagnosis,
    of_audit,
    of_configuration,
    of_error,
    of_findings,
    of_hooks,
    of_passage,
    of_store,
    of_tokens,
    of_wires,
)
from gateway.install.program import Program, find_program
from gateway.install.selftest import Passage, pass_through
from gateway.install.wiring import Configurations, clients_root, read_hooks, read_wires

_AT_ONCE = 4
_EXIT_CODES = {"ok": 0, "warning": 1, "error": 2}
_MARKS = {"ok": "ok     ", "warning": "warning", "error": "error  "}


@click.command(name="doctor")
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The configuration. Default: gateway.yaml here or above, else .mcp.json.",
)
@click.option("--offline", is_flag=True, help="Start no upstream.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def command(config: Path | None, offline: bool, as_json: bool) -> int:
    """Look at everything from the client's files to the audit log, and say what to do.

    Reads the configuration and the clients' files, gives the audit log a record, tells the client's
    hook of a write that it must refuse, and goes through the gateway to every upstream: lists its
    tools and is refused an unknown one. The refusals stay in the audit log.

    The exit code is 0 if all is well, 1 if something needs attention, 2 if something does not work.
    """
    diagnoses = []
    for diagnosis in _diagnose(config, offline=offline):
        diagnoses.append(diagnosis)
        if as_json:
            print_json_line(diagnosis)
        else:
            _print(diagnosis)
    if not as_json:
        click.echo()
        print_line(_summary(diagnoses))
    return max(_EXIT_CODES[diagnosis.severity] for diagnosis in diagnoses)


def _diagnose(config: Path | None, *, offline: bool) -> Iterator[Diagnosis]:
    """Everything, beginning with what the rest depends on."""
    try:
        find(config, cwd=Path.cwd(), environ=os.environ)
    except UserError as error:
        message = error.message.partition(";")[0]
        yield Diagnosis("configuration", "error", message, "run `gateway init`")
        return
    try:
        loaded = load(config, cwd=Path.cwd(), trusted=False)
    except UserError as error:
        yield from of_error("configuration", error)
        return
    program = find_program(os.environ)
    yield from of_configuration(loaded, "" if config is None else f" -c {shlex.quote(str(config))}")
    audit = list(of_audit(loaded))
    yield from audit
    if not offline:
        yield from of_store(loaded)
    if not offline and all(diagnosis.severity == "ok" for diagnosis in audit):
        yield from _of_upstreams(loaded, config, program)
    yield from of_tokens(tokens_path(loaded.settings), loaded.settings.http, now_s=time.time())
    yield from _of_clients(loaded, program)


def _of_upstreams(loaded: Loaded, config: Path | None, program: Program) -> Iterator[Diagnosis]:
    """The way through the gateway to each upstream that may be started."""
    traits = loaded.snapshot.upstreams
    names = [name for name in loaded.settings.upstreams if not traits[name].held]
    for passage in run(_pass_all(loaded, names, config, program)) if names else ():
        yield of_passage(passage, loaded.settings.upstreams[passage.upstream])


async def _pass_all(
    loaded: Loaded, names: list[str], config: Path | None, program: Program
) -> list[Passage]:
    free = asyncio.Semaphore(_AT_ONCE)
    audit = audit_directory(loaded.settings)

    async def pass_one(name: str) -> Passage:
        async with free:
            return await pass_through(
                name,
                program=program,
                config=config,
                audit=audit,
                start_timeout_s=loaded.settings.upstreams[name].start_timeout_s,
            )

    return list(await asyncio.gather(*(pass_one(name) for name in names)))


def _of_clients(loaded: Loaded, program: Program) -> Iterator[Diagnosis]:
    home = Path.home()
    root = clients_root(loaded, Path.cwd(), home, os.environ)
    problems: list[UserError] = []
    wires = read_wires(loaded.settings, root, home, os.environ, problems)
    hooks = read_hooks(root, home, os.environ, problems)
    for problem in problems:
        yield from of_error("clients", problem)
    yield from of_wires(wires, loaded, Configurations(root, os.environ))
    yield from of_hooks(hooks, wires, loaded, root, program)
    session = {wire.name for wire in wires if wire.servers.client == "claude-code"}
    agents = read_agents(root, agent_directories(root, home, os.environ))
    yield from of_findings("agents", inline_servers(agents, session, program.usual))


def _print(diagnosis: Diagnosis) -> None:
    where = diagnosis.path
    if diagnosis.path and diagnosis.line:
        where = f"{diagnosis.path}:{diagnosis.line}"
    first, *more = diagnosis.message.split("\n")
    shown = f" ({where})" if where else ""
    print_line(f"{_MARKS[diagnosis.severity]}  {diagnosis.area}: {first}{shown}")
    for text in more:
        print_line(f"         {text}")
    if diagnosis.remedy:
        print_line(f"         -> {diagnosis.remedy}")


def _summary(diagnoses: list[Diagnosis]) -> str:
    counts = [
        f"{count} {severity}{'s' if count > 1 else ''}"
        for severity in ("error", "warning")
        if (count := sum(diagnosis.severity == severity for diagnosis in diagnoses))
    ]
    return f"Found {' and '.join(counts)}." if counts else "All is well."
