"""`python -m bench`: measure, report, profile, install the peers."""

import asyncio
import fnmatch
import signal
import sys
from collections.abc import Coroutine
from typing import TypeVar

import click
import uvloop

from bench import deciding, guards, hook
from bench.audit import measure as audit_measure
from bench.audit import report as audit_report
from bench.measure import run as runs
from bench.places import REPORT
from bench.profiling import NoProfilerError, profile
from bench.report.page import insert, latest, publish, save, summary
from bench.subjects.install import install_all
from bench.subjects.subject import COMBOS, Combo

ResultT = TypeVar("ResultT")


@click.group(invoke_without_command=True)
@click.option("--quick", is_flag=True, help="About 3 minutes instead of 15; rougher.")
@click.option(
    "--only",
    multiple=True,
    metavar="PATTERN",
    help="Paths such as 'HH *' or '* gateway'; several may be given. Nothing is published.",
)
@click.option("--peers/--no-peers", default=True, help="Measure the peers too (default).")
@click.pass_context
def main(context: click.Context, quick: bool, only: tuple[str, ...], peers: bool) -> None:
    """Measure direct, bare relay, gateway and peers; print and publish the tables."""
    if context.invoked_subcommand is not None:
        return
    if peers:
        install_all()

    def chosen(subject: str, combo: Combo) -> bool:
        return not only or any(fnmatch.fnmatch(f"{combo} {subject}", each) for each in only)

    plan = runs.Plan(
        mode="quick" if quick else "full",
        own=runs.QUICK if quick else runs.FULL,
        peers=(runs.PEERS_QUICK if quick else runs.PEERS_FULL) if peers else None,
        chosen=chosen,
        growth=not only or "growth" in only,
    )
    results = _run(runs.run(plan))
    if not only:
        save(results)
        publish(results)
    click.echo(summary(results))


@main.command(name="policies")
def policies() -> None:
    """What deciding costs with many rules, and what guards cost. Prints only."""
    for tool, about in (("query", deciding.APPLYING), ("plain", 0)):
        taken = deciding.measure(tool)
        click.echo(f"{deciding.RULES} rules, {about} of them about the call: {taken} a decision")
    click.echo()
    click.echo(guards.report(guards.costs(), guards.beside()))


@main.command(name="audit")
@click.option(
    "--scale",
    type=click.FloatRange(min=0.001),
    default=1.0,
    envvar="SCALE",
    help="Millions of records (1, or the variable SCALE).",
)
@click.option("--postgres/--no-postgres", default=True, help="PostgreSQL too (default).")
@click.option("--publish", "published", is_flag=True, help="Put it into docs/audit-questions.md.")
def audit_command(scale: float, postgres: bool, published: bool) -> None:
    """Measure the audit log: writing, verifying, indexing, and every question."""
    results = audit_measure.measure(
        round(scale * 1_000_000),
        postgres=postgres,
        say=lambda text: click.echo(text, err=True),
    )
    if published:
        audit_report.save(results)
        audit_report.publish(results)
    click.echo(audit_report.summary(results))


@main.command(name="report")
def report() -> None:
    """Make page, plots and tables anew out of the last results."""
    publish(latest())
    click.echo(summary(latest()))


@main.command(name="peers")
def peers_command() -> None:
    """Install the peers below bench/.peers."""
    install_all()


@main.command(name="profile")
@click.option("--path", "paths", type=click.Choice(COMBOS), multiple=True, default=("SS", "HH"))
@click.option("--in-flight", type=click.IntRange(1, 256), default=64)
@click.option("--size", type=click.IntRange(1), default=1_000, help="Bytes of a result.")
@click.option("--seconds", type=click.IntRange(1, 60), default=8)
@click.option("--publish", "published", is_flag=True, help="Put it into docs/performance.md.")
def profile_command(
    paths: tuple[Combo, ...], in_flight: int, size: int, seconds: int, published: bool
) -> None:
    """Sample the gateway under load and tell where its time goes."""
    parts = []
    for path in dict.fromkeys(paths):
        try:
            parts.append(_run(profile(path, in_flight, seconds, size)))
        except NoProfilerError as error:
            sys.exit(str(error))
    text = "\n".join(parts)
    if published:
        insert(REPORT, "profile", text)
    click.echo(text)


@main.command(name="hook")
@click.option("--runs", type=click.IntRange(1), default=200, help="Of each command (200).")
def hook_command(runs: int) -> None:
    """Measure the start of the client's hook beside that of a bare interpreter."""
    click.echo(hook.table(hook.measure(runs)))


def _run(main: Coroutine[None, None, ResultT]) -> ResultT:
    """Run to the end, or until this process is told to end: then what it started ends first."""

    async def until_told() -> ResultT:
        task = asyncio.ensure_future(main)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await task

    return uvloop.run(until_told())


if __name__ == "__main__":
    main()
