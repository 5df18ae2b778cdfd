"""The set-up script, the lock file it installs from, and the fixture that the suite is run against.

The full runs are `make conformance`; the one here shows that fixture and runner agree.
"""

import json
import subprocess
from pathlib import Path

import pytest

from tests.conformance.comparison import count
from tests.conformance.subjects import fixture_over_http
from tests.conformance.suite import ROOT, RUNS, run_suite

pytestmark = pytest.mark.real


def run_setup(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "setup", *arguments], capture_output=True, text=True, check=False, timeout=120
    )


def test_a_set_up_that_is_done_installs_nothing() -> None:
    run_setup()
    done = run_setup()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "conformance set-up: node is up to date",
        "conformance set-up: the suite is up to date",
        "conformance set-up: ready",
    ]


def test_the_lock_file_pins_what_was_asked_for_and_names_no_registry() -> None:
    packages = json.loads((ROOT / "package-lock.json").read_text())["packages"]
    wanted = json.loads((ROOT / "package.json").read_text())["dependencies"]
    locked = {
        name: f"npm:{packages[at]['name']}@{packages[at]['version']}"
        for name in wanted
        for at in [f"node_modules/{name}"]
    }
    assert locked == wanted
    assert not [path for path, package in packages.items() if "resolved" in package]
    assert "omit-lockfile-registry-resolved=true" in (ROOT / ".npmrc").read_text().splitlines()


@pytest.mark.parametrize(
    ("index", "passed", "failed"),
    [(2, 44, 0), (3, 84, 0), (4, 169, 25)],
    ids=[f"{run.revision}-{run.package}" for run in RUNS[2:]],
)
def test_the_fixture_does_all_that_the_suite_asks_for_but_tasks(
    tmp_path: Path, index: int, passed: int, failed: int
) -> None:
    with fixture_over_http() as url:
        checks = run_suite(RUNS[index], url, tmp_path / "results")
    assert (count(checks, "SUCCESS"), count(checks, "FAILURE")) == (passed, failed)
    failing = {check.scenario for check in checks if check.verdict == "FAILURE"}
    assert all(scenario.startswith("tasks-") for scenario in failing)
