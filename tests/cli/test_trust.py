"""`gateway trust`: what a person is shown, and that only a person accepts it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.cli.trust import _AGENT_SHELLS

from .conftest import Project, Run

SECRET = "sk-hunter2-planted-secret"


@pytest.fixture
def cloned(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project that nobody has accepted, on a terminal that is no agent's."""
    for name in _AGENT_SHELLS:
        monkeypatch.delenv(name, raising=False)
    project.accepting = False
    project.canary("web")
    project.agent("tester", ["mcp__web__fetch", "Read"])
    project.write()
    return project


def test_shows_everything_and_accepts_nothing_without_a_person(cloned: Project, run: Run) -> None:
    first = run("trust")
    assert first.code == 2
    assert "nothing was accepted" in first.err
    assert "+ web (gateway.yaml:1)" in first.out
    assert f"{sys.executable} -I -S " in first.out
    assert "with CANARY_LOG, CANARY_SCRIPT" in first.out
    assert "    + mcp__web__fetch\n    + Read\n" in first.out
    assert 'default_agent: unset -> "tester"' in first.out
    assert run("trust").out == first.out
    assert run("check").out.count("[not-accepted]") == 1


def test_yes_accepts_and_what_is_accepted_is_not_asked_again(cloned: Project, run: Run) -> None:
    assert run("trust", "--yes").out.endswith("Accepted.\n")
    again = run("trust")
    assert (again.code, again.err) == (0, "")
    assert again.out.endswith("There is nothing new to accept.\n")
    assert "[not-accepted]" not in run("check").out


def test_only_what_is_new_is_shown(cloned: Project, run: Run) -> None:
    run("trust", "--yes")
    cloned.agent("tester", ["mcp__web__post"])
    shown = run("trust", "--show")
    assert shown.code == 0
    assert "Upstreams" not in shown.out
    assert "    + mcp__web__post\n    - mcp__web__fetch\n    - Read\n" in shown.out
    assert run("trust", "--show").out == shown.out


def test_no_secret_is_shown_and_every_command_is(cloned: Project, run: Run) -> None:
    cloned.upstreams["web"]["args"] += ["--token", SECRET]
    cloned.upstreams["web"]["env"] = {
        "API_KEY": SECRET,
        "OTHER": f"${{exec:pass show it}}{SECRET}",
        "THIRD": f"${{NAME:-{SECRET}}}",
    }
    cloned.upstreams["remote"] = {
        "type": "http",
        "url": f"https://host.test/mcp?api_key={SECRET}",
        "headers": {"Authorization": "Bearer ${TOKEN}"},
    }
    cloned.write()
    shown = run("trust", "--show").out
    assert SECRET not in shown
    assert "API_KEY, OTHER=${exec:pass show it}***, THIRD=${NAME:-***}" in shown
    assert "https://host.test/***" in shown
    assert "Authorization=***${TOKEN}" in shown


def test_what_it_shows_cannot_fool_the_terminal(cloned: Project, run: Run) -> None:
    cloned.upstreams["web"]["args"] = ["\x1b[2Jharmless\u202e"]
    cloned.write()
    shown = run("trust", "--show").out
    assert "\x1b" not in shown
    assert "\u202e" not in shown


@pytest.mark.parametrize("name", _AGENT_SHELLS)
def test_the_shell_of_an_agent_is_refused(
    cloned: Project, run: Run, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "1")
    refused = run("trust", "--yes")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.count("\n") == 1
    assert "run it in a terminal of your own" in refused.err
    assert "[not-accepted]" in run("check").out
    assert run("trust", "--show").code == 0


def test_it_is_recorded(cloned: Project, run: Run) -> None:
    run("trust", "--yes")
    [event] = cloned.events("configuration.accepted")
    assert len(event["data"].pop("digest")) == 64
    assert event["data"] == {"agents": 1, "gained": 2, "lost": 0, "started": 1, "upstreams": 1}


def test_nothing_is_accepted_that_cannot_be_recorded(cloned: Project, run: Run) -> None:
    (cloned.root / "audit").mkdir(mode=0o700)
    (cloned.root / "audit" / "journal").write_text("in the way")
    refused = run("trust", "--yes")
    assert refused.code == 2
    assert "Accepted" not in refused.out
    assert "[not-accepted]" in run("check").out


def test_a_broken_configuration_cannot_be_accepted(cloned: Project, run: Run) -> None:
    (cloned.root / "gateway.yaml").write_text(json.dumps({"upstreams": {"web": {"comand": "x"}}}))
    assert run("trust", "--yes").code == 2


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo terminals")
@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 2), ("", 2)])
def test_on_a_terminal_it_asks(cloned: Project, run: Run, answer: str, code: int) -> None:
    import pty

    outer, inner = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "trust"],
        cwd=cloned.root,
        env=cloned.env,
        stdin=inner,
        stdout=inner,
        stderr=inner,
    )
    os.close(inner)
    shown = b""
    while b"Accept this?" not in shown:
        shown += os.read(outer, 65_536)
    os.write(outer, answer.encode() + b"\n")
    try:
        assert process.wait(20) == code
    finally:
        process.kill()
        process.wait()
        os.close(outer)
    assert ("[not-accepted]" in run("check").out) == bool(code)


def test_check_and_explain_start_nothing_that_is_held(
    cloned: Project, run: Run, tmp_path: Path
) -> None:
    marker = tmp_path / "started"
    cloned.upstreams["web"]["env"]["X"] = f"${{exec:touch {marker}}}"
    cloned.write()
    live = run("check", "--live")
    assert live.code == 1
    assert "[not-accepted]" in live.out
    told = run("explain", "tester", "mcp__web__fetch", "--live")
    assert told.code == 1
    assert "gateway trust" in told.out
    assert run("connect", "web").code == 2
    assert cloned.received("web") == []
    assert not marker.exists()


def test_the_former_audit_log_says_so_too_where_it_is_to_move(cloned: Project, run: Run) -> None:
    run("trust", "--yes")
    cloned.settings["audit"] = {"directory": str(cloned.root / "elsewhere")}
    cloned.write()
    assert run("trust", "--yes").code == 0
    assert len(cloned.events("configuration.accepted")) == 2
