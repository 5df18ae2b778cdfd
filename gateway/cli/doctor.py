"""`gateway doctor`: goes through everything from the client's files to the audit log."""

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path

import click
import msgspec

from gateway.cli.output import print_json_line, print_line
from gateway.cli.running import run
from gateway.config.directories import audit_directory
from gateway.config.load import Loaded, load
from gateway.errors import UserError
from gateway.identity.identity import of_process
from gateway.install.clients import find_servers, project_root
from gateway.install.diagnosis import (
    Diagnosis,
    of_audit,
    of_configuration,
    of_error,
    of_identity,
    of_passage,
    of_wires,
)
from gateway.install.selftest import Passage, pass_through
from gateway.install.wiring import read_wires

_AT_ONCE = 4
_EXIT_CODES = {"ok": 0, "warning": 1, "error": 2}


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

    Reads the configuration and the clients' files, sends a record to the audit log, runs the
    client's hook, and goes through the gateway to every upstream: lists its tools and is refused an
    unknown one. Exit code 0: all is well, 1: something needs attention, 2: something does not work.
    """
    diagnoses: list[Diagnosis] = []
    loaded: Loaded | None = None
    try:
        loaded = load(config, cwd=Path.cwd(), trusted=False)
    except UserError as error:
        diagnoses.append(of_error("configuration", error))
    if loaded is not None:
        diagnoses += of_configuration(loaded)
        audit = of_audit(loaded)
        diagnoses.append(audit)
        if not offline and audit.severity == "ok":
            diagnoses += _passages(loaded, config)
        diagnoses += _of_clients(loaded)
    for diagnosis in diagnoses:
        if as_json:
            print_json_line(msgspec.structs.asdict(diagnosis))
        else:
            _print(diagnosis)
    if not as_json:
        click.echo()
        print_line(_summary(diagnoses))
    return max(_EXIT_CODES[diagnosis.severity] for diagnosis in diagnoses)


def _of_clients(loaded: Loaded) -> Iterable[Diagnosis]:
    home = Path.home()
    root = project_root(Path(loaded.settings.root), home)
    problems: list[UserError] = []
    wires = read_wires(find_servers(root, home, os.environ, ()), problems)
    yield from (of_error("clients", problem) for problem in problems)
    yield from of_wires(wires, loaded)
    yield from of_identity(wires, loaded)


def _passages(loaded: Loaded, config: Path | None) -> Iterable[Diagnosis]:
    """The way through the gateway to each upstream that may be started."""
    traits = loaded.snapshot.upstreams
    names = [name for name in loaded.settings.upstreams if not traits[name].held]
    for passage in run(_pass_all(loaded, names, config)) if names else ():
        yield of_passage(passage, loaded.settings.upstreams[passage.upstream])


async def _pass_all(loaded: Loaded, names: list[str], config: Path | None) -> list[Passage]:
    free = asyncio.Semaphore(_AT_ONCE)
    audit = audit_directory(loaded.settings)
    # Whoever it is: a shared connection may see what any agent may.
    identity = ["--hook"] if of_process(None, loaded.settings.default_agent).agent is None else []

    async def pass_one(name: str) -> Passage:
        async with free:
            return await pass_through(name, identity, config, audit)

    return list(await asyncio.gather(*(pass_one(name) for name in names)))


def _print(diagnosis: Diagnosis) -> None:
    where = ""
    if diagnosis.path:
        where = (
            f" ({diagnosis.path}:{diagnosis.line})" if diagnosis.line else f" ({diagnosis.path})"
        )
    mark = {"ok": "ok     ", "warning": "warning", "error": "error  "}[diagnosis.severity]
    first, *more = diagnosis.message.split("\n")
    print_line(f"{mark}  {diagnosis.area}: {first}{where}")
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
