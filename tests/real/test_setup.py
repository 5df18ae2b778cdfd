"""The set-up script and the lock files it installs from."""

import json
import subprocess

import pytest

from tests.real.installed import ROOT

pytestmark = pytest.mark.real

FOLDERS = ("node", "clients", "claude", "servers/newest", "servers/matching")


def run_setup(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "setup", *arguments], capture_output=True, text=True, check=False, timeout=60
    )


def test_a_set_up_that_is_done_installs_nothing() -> None:
    stamps = [ROOT / folder / "node_modules/.stamp" for folder in FOLDERS]
    stamps.append(ROOT / "python/.venv/.stamp")
    before = [stamp.stat().st_mtime_ns for stamp in stamps]
    done = run_setup()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "real set-up: chromium, postgresql and strace are there",
        "real set-up: node is up to date",
        "real set-up: servers/newest is up to date",
        "real set-up: servers/matching is up to date",
        "real set-up: clients is up to date",
        "real set-up: claude is up to date",
        "real set-up: python is up to date",
        "real set-up: ready",
    ]
    assert [stamp.stat().st_mtime_ns for stamp in stamps] == before


def test_an_unknown_option_fails_in_one_sentence() -> None:
    done = run_setup("--oldest")
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert "unknown option '--oldest': use --newest" in done.stderr


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_lock_file_pins_what_was_asked_for_and_names_no_registry(folder: str) -> None:
    packages = json.loads((ROOT / folder / "package-lock.json").read_text())["packages"]
    wanted = json.loads((ROOT / folder / "package.json").read_text())["dependencies"]
    locked = {name: packages[f"node_modules/{name}"]["version"] for name in wanted}
    assert locked == wanted
    assert not [path for path, package in packages.items() if "resolved" in package]
    installed = [path for path in packages if path]
    assert [p for p in installed if not packages[p]["integrity"].startswith("sha512-")] == []


def test_every_folder_keeps_registries_out_of_its_lock_file() -> None:
    for folder in FOLDERS:
        settings = (ROOT / folder / ".npmrc").read_text().splitlines()
        assert "omit-lockfile-registry-resolved=true" in settings


def test_the_python_client_is_locked_by_digests_and_names_no_registry() -> None:
    lines = (ROOT / "python/requirements.lock").read_text().splitlines()
    pinned = [line for line in lines if line and line[0].isalpha()]
    assert any(line.startswith("mcp==1.") for line in pinned)
    assert all(" \\" in line and "==" in line for line in pinned)
    assert not [line for line in lines if "://" in line or "index" in line]
