"""`gateway demo`: what a newcomer sees, and that it tells when something is not as it should be."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real import installed
from tests.real.processes import nothing_left

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]

CHECKOUT = installed.ROOT.parents[1]
NEWEST = "tests/real/servers/newest/node_modules"
UPSTREAMS = ("supabase", "playwright", "firecrawl", "context7")


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    with nothing_left():
        yield


def run_demo(
    *options: str, checkout: Path = CHECKOUT, **extra: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway", "demo", *options],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout), **extra},
        capture_output=True,
        text=True,
        check=False,
    )


def rows(output: str, headline: str) -> list[str]:
    """The rows of the table below `headline`."""
    lines = output.split(headline, 1)[1].split("\n\n")[1].splitlines()
    return lines[1:]


@pytest.mark.parametrize("generation", installed.GENERATIONS)
def test_the_demo_shows_allowed_and_refused_calls_and_their_records(generation: str) -> None:
    done = run_demo("--generation", generation)
    assert done.returncode == 0, done.stderr
    calls = rows(done.stdout, "What the client called")
    allowed = [row for row in calls if "  allowed  " in row]
    refused = [row for row in calls if "  refused  " in row]
    assert sorted(allowed + refused) == sorted(calls)
    for upstream in UPSTREAMS:
        assert any(row.startswith(f"mcp__{upstream}__") for row in allowed)
    assert len(refused) >= 3
    assert any("image/png" in row for row in allowed)

    records = rows(done.stdout, "The audit log of these calls")
    decisions = {"allowed": "allow", "refused": "deny"}
    expected = [(row.split()[0], decisions[_outcome(row)]) for row in calls]
    recorded = [(fields[3], fields[4]) for fields in map(str.split, records)]
    assert sorted(recorded) == sorted(expected)
    assert "Starting" in done.stderr.splitlines()[0]


def _outcome(row: str) -> str:
    found = re.search(r"  (allowed|refused)  ", row)
    assert found is not None, row
    return found[1]


@pytest.fixture
def another(tmp_path: Path) -> Path:
    """A checkout of its own, whose server packages are links that a test may replace."""
    root = tmp_path / "checkout"
    shutil.copytree(CHECKOUT / "gateway", root / "gateway")
    shutil.copytree(CHECKOUT / "policies", root / "policies")
    leave_out = shutil.ignore_patterns("node_modules", "__pycache__")
    shutil.copytree(CHECKOUT / "tests", root / "tests", ignore=leave_out)
    _link_modules(root, "node")
    _link_modules(root, "servers/newest")
    return root


def _link_modules(root: Path, folder: str) -> None:
    modules = root / "tests/real" / folder / "node_modules"
    modules.mkdir()
    for package in (installed.ROOT / folder / "node_modules").iterdir():
        (modules / package.name).symlink_to(package)


def test_a_server_that_does_not_start_is_named_and_fails_the_demo(another: Path) -> None:
    scope = another / NEWEST / "@supabase"
    scope.unlink()
    script = scope / "mcp-server-supabase/dist/cli.js"
    script.parent.mkdir(parents=True)
    script.write_text('console.error("out of order"); process.exit(3);')
    done = run_demo(checkout=another)
    assert done.returncode == 1
    named = [line for line in done.stderr.splitlines() if "could not be started" in line]
    assert len(named) == 1
    assert named[0].startswith("The server supabase could not be started: ")
    assert "out of order" in named[0]
    calls = rows(done.stdout, "What the client called")
    for upstream in ("playwright", "firecrawl", "context7"):
        assert any(row.startswith(f"mcp__{upstream}__") and "  allowed  " in row for row in calls)


def test_a_server_that_is_not_installed_is_named_and_may_be_left_out(another: Path) -> None:
    (another / NEWEST / "firecrawl-mcp").unlink()
    done = run_demo("--partial", checkout=another)
    assert done.returncode == 0
    assert "The server firecrawl could not be started: " in done.stderr
    assert "run tests/real/setup" in done.stderr
    assert not any("firecrawl" in row for row in rows(done.stdout, "What the client called"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -15)])
def test_an_interrupted_demo_takes_everything_down(number: signal.Signals, code: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "gateway", "demo"],
        cwd=CHECKOUT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as demo:
        assert demo.stderr is not None
        assert any("calling some" in line for line in demo.stderr)
        demo.send_signal(number)
        said = demo.stderr.read()
        assert demo.wait(30) == code
    assert "Traceback" not in said


def test_nothing_installed_is_one_sentence_with_the_remedy(another: Path) -> None:
    shutil.rmtree(another / NEWEST)
    done = run_demo(checkout=another)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no server is installed; run `make demo`" in done.stderr.splitlines()[-1]


def test_surroundings_that_do_not_start_are_explained(another: Path) -> None:
    (another / "tests/real/postgres.py").write_text('raise RuntimeError("no database today")')
    done = run_demo(checkout=another)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no database today" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_an_installed_package_without_its_checkout_says_what_it_needs(tmp_path: Path) -> None:
    shutil.copytree(CHECKOUT / "gateway", tmp_path / "gateway")
    done = run_demo(checkout=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert "needs a checkout of the repository" in done.stderr
