"""`make conformance`: the official suite against the fixture, directly and through the gateway.

Prints a table and the baseline diff for each revision. Exits with 1 if a check fails through the
gateway that does not fail directly, with 2 if something could not be run at all.
"""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path

from tests.conformance.comparison import compare, count
from tests.conformance.subjects import (
    StartError,
    fixture_entry,
    fixture_over_http,
    gateway_before,
    http_entry,
)
from tests.conformance.suite import RUNS, Check, Run, SuiteError, run_suite
from tests.real.installed import SetupMissingError

Opener = Callable[[], AbstractContextManager[str]]
"""Starts a server and gives its URL; the server ends with the context."""
DIRECT = "direct"
_UPSTREAM = "fixture"


def subjects(direct_url: str) -> Mapping[str, Opener]:
    """How each server that is compared is started, by how it is reached; `direct` comes first."""
    return {
        DIRECT: lambda: nullcontext(direct_url),
        "gateway, stdio": lambda: gateway_before(_UPSTREAM, fixture_entry()),
        "gateway, HTTP": lambda: gateway_before(_UPSTREAM, http_entry(direct_url)),
    }


def compare_all(runs: Sequence[Run], openers: Mapping[str, Opener], results: Path) -> int:
    """Run everything, print as it comes; how many failures the gateway adds."""
    added = 0
    for number, run in enumerate(runs):
        print(f"\nRevision {run.revision}, suite {run.version} ({' '.join(run.arguments)})")
        print(f"  {'':<16}{'passed':>7}{'failed':>7}{'seconds':>9}", flush=True)
        found: dict[str, tuple[Check, ...]] = {}
        for name, opener in openers.items():
            place = results / f"{number}-{run.revision}-{name.replace(', ', '-')}"
            began = time.monotonic()
            # A gateway for each run: the suite leaves its sessions open, and with them processes.
            with opener() as url:
                try:
                    found[name] = run_suite(run, url, place)
                except SuiteError as error:
                    if name == DIRECT:
                        raise
                    print(f"  {name:<16} {error}")
                    found[name] = ()
            passed, failed = count(found[name], "SUCCESS"), count(found[name], "FAILURE")
            took_s = time.monotonic() - began
            print(f"  {name:<16}{passed:>7}{failed:>7}{took_s:>9.1f}", flush=True)
        added += _print_diff(found)
    return added


def _print_diff(found: Mapping[str, tuple[Check, ...]]) -> int:
    added = 0
    for name, checks in found.items():
        if name == DIRECT:
            continue
        diff = compare(found[DIRECT], checks)
        added += len(diff.added)
        _print_checks(f"fails only through {name}", diff.added)
        _print_checks(f"fails only directly, not through {name}", diff.mended)
        _print_checks(f"passes directly, undecided through {name}", diff.lost)
        if not (diff.added or diff.mended or diff.lost):
            print(f"  no difference through {name}")
    return added


def _print_checks(title: str, checks: Sequence[Check]) -> None:
    if checks:
        print(f"  {title}:")
    for check in checks:
        told = " ".join(check.message.split())[:300] if check.verdict == "FAILURE" else ""
        print(f"    {check.scenario}: {check.id}" + (f": {told}" if told else ""))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as the command line says; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    known = sorted({run.revision for run in RUNS})
    parser.add_argument("--revision", action="append", choices=known, help="may be repeated")
    parser.add_argument("--results", type=Path, help="a new folder to keep the evidence in")
    parsed = parser.parse_args(arguments)
    runs = [run for run in RUNS if parsed.revision is None or run.revision in parsed.revision]
    # So that what was started is ended too when this process is told to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with ExitStack() as stack:
            kept: Path | None = parsed.results
            if kept is None:
                kept = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="suite-")))
            else:
                kept.mkdir(parents=True)
            url = stack.enter_context(fixture_over_http())
            added = compare_all(runs, subjects(url), kept.resolve())
    except (SuiteError, StartError, SetupMissingError, FileExistsError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"\nThe gateway adds {added} failures." if added else "\nThe gateway adds no failure.")
    return 1 if added else 0


if __name__ == "__main__":
    sys.exit(main())
