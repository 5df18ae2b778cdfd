"""Runs one version of the official suite against a URL and reads what it found."""

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.real.installed import node

ROOT = Path(__file__).parent
TIME_LIMIT_S = 300.0
"""How long one run may take; one through the gateway starts a process for each session."""

Package = Literal["conformance-handshake", "conformance-stateless"]
WHOLE_SCENARIO = "scenario"
"""The id of a check that stands for all of a scenario that has no verdicts of its own."""
_FOLDER = re.compile(r"server-(.+)-\d{4}-\d{2}-\d{2}T[\d-]+Z")


@dataclass(frozen=True)
class Run:
    """What is asked of the suite: `revision` names the protocol on the wire."""

    revision: str
    package: Package
    arguments: tuple[str, ...]

    @property
    def version(self) -> str:
        """The suite's own version."""
        manifest = ROOT / "node_modules" / self.package / "package.json"
        return str(json.loads(manifest.read_text())["version"])


RUNS = (
    Run(
        "2025-03-26",
        "conformance-stateless",
        ("--suite", "all", "--spec-version", "2025-03-26"),
    ),
    Run(
        "2025-06-18",
        "conformance-stateless",
        ("--suite", "all", "--spec-version", "2025-06-18"),
    ),
    Run("2025-11-25", "conformance-handshake", ("--suite", "all")),
    Run("2025-11-25", "conformance-stateless", ("--requirements", "2025-11-25")),
    Run("2026-07-28", "conformance-stateless", ("--requirements", "2026-07-28")),
)


@dataclass(frozen=True)
class Check:
    """One check of a scenario; ids repeat within a scenario.

    `verdict` is SUCCESS, FAILURE, WARNING, SKIPPED, or INFO for what the suite only tells.
    """

    scenario: str
    id: str
    verdict: str
    message: str


class SuiteError(Exception):
    """The suite could not be run; the message says what to do or what it printed last."""


def run_suite(run: Run, url: str, results: Path) -> tuple[Check, ...]:
    """Every check, in the order of the scenarios' names.

    `results` is a folder that does not exist yet; the suite leaves its evidence there. Raises
    SuiteError where the suite is not installed, prints no result, or takes longer than it may.
    """
    script = ROOT / "node_modules" / run.package / "dist/index.js"
    if not script.is_file():
        raise SuiteError("the conformance suite is not installed: run tests/conformance/setup")
    command = [str(node()), str(script), "server", "--url", url, *run.arguments]
    try:
        done = subprocess.run(
            [*command, "--output-dir", str(results)],
            env={"PATH": os.environ["PATH"], "NO_PROXY": "*"},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIME_LIMIT_S,
        )
    except subprocess.TimeoutExpired:
        raise SuiteError(f"the suite took longer than {TIME_LIMIT_S:.0f} s against {url}") from None
    checks = tuple(_read(results)) if results.is_dir() else ()
    if not checks:
        raise SuiteError(f"the suite left no result: {(done.stderr or done.stdout)[-500:]}")
    return checks


def _read(results: Path) -> list[Check]:
    checks: list[Check] = []
    for folder in sorted(results.iterdir()):
        named = _FOLDER.fullmatch(folder.name)
        if named is None:
            raise SuiteError(f"the suite left a folder that nobody knows: {folder.name}")
        evidence = folder / "checks.json"
        if not evidence.is_file():
            checks.append(Check(named[1], WHOLE_SCENARIO, "FAILURE", "the suite gave it up"))
            continue
        found = json.loads(evidence.read_text())
        checks += [
            Check(
                named[1], str(check["id"]), str(check["status"]), str(check.get("errorMessage", ""))
            )
            for check in found
        ]
    return checks
