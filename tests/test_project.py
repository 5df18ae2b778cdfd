"""The files that make a set-up reproducible: the lock file, the Makefile, what CI runs."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "requirements.lock").read_text()


def locked() -> dict[str, str]:
    """The pinned packages by name, each with the rest of its entry."""
    entries = re.split(r"^(?=[a-z0-9])", LOCK, flags=re.MULTILINE)
    return {entry.partition("==")[0]: entry for entry in entries if "==" in entry}


def test_the_lock_file_pins_every_dependency_with_digests() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = project["project"]["dependencies"] + project["dependency-groups"]["dev"]
    names = {re.split(r"[\[<>=;~! ]", entry)[0].lower() for entry in wanted}
    names |= {entry.split(">")[0].lower() for entry in project["build-system"]["requires"]}
    entries = locked()
    assert names <= entries.keys()
    assert [name for name, entry in entries.items() if "--hash=sha256:" not in entry] == []


def test_the_lock_file_names_no_registry_and_no_machine() -> None:
    assert "://" not in LOCK
    assert not [line for line in LOCK.splitlines() if "/" in line or "index" in line]


@pytest.mark.parametrize("target", ["setup", "demo", "test", "test-fast", "lint", "clean"])
def test_the_makefile_explains_its_targets(target: str) -> None:
    listed = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert re.search(rf"^{target} +\S", listed.stdout, re.MULTILINE)


def test_ci_runs_what_a_person_runs() -> None:
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    assert script.read_text().splitlines()[-1] == "exec make test"
