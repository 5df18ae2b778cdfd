"""`gateway doctor` goes the whole way, with real upstreams, and its exit code says how it was."""

import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.config.trust import accept
from gateway.install.program import find_program
from tests.cli.conftest import Project, Run

PROGRAM = find_program({})


@pytest.fixture
def wired(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Two upstreams, one agent, and Claude Code wired to the gateway with its hook."""
    for name in [name for name in os.environ if name.startswith("CLAUDE_")]:
        monkeypatch.delenv(name)
    project.offers("one", ["a", "b"])
    project.offers("two", ["c"])
    project.agent("tester", ["mcp__one__a", "mcp__two"])
    project.settings = {"http": {}, "main_thread": "observe", "builtin_agents": ["mcp__one"]}
    project.write()
    clients(project, one=["one", "--hook"], two=["two", "--hook"])
    handler = {"type": "command", "command": PROGRAM.hook()}
    hooks = {"hooks": {"PreToolUse": [{"matcher": "*", "hooks": [handler]}]}}
    (project.root / ".claude/settings.json").write_text(json.dumps(hooks))
    return project


def clients(project: Project, **args: Sequence[str]) -> None:
    servers = {
        name: {"command": PROGRAM.absolute[0], "args": ["connect", *words]}
        for name, words in args.items()
    }
    (project.root / ".mcp.json").write_text(json.dumps({"mcpServers": servers}))


def found(out: str, *severities: str) -> list[dict[str, Any]]:
    return [each for each in map(json.loads, out.splitlines()) if each["severity"] in severities]


def test_all_well_from_the_clients_to_the_log(wired: Project, run: Run) -> None:
    outcome = run("doctor")
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert lines[-2:] == ["", "All is well."]
    assert all(line.startswith("ok ") for line in lines[:-2])
    assert "ok       upstreams: one: 2 tools listed, an unknown one refused and recorded" in lines
    assert "ok       upstreams: two: 1 tool listed, an unknown one refused and recorded" in lines
    refused = {record["tool"].partition("-test-")[0] for record in wired.decisions(decision="deny")}
    assert refused == {"Write", "mcp__one__self", "mcp__two__self"}
    assert wired.calls("one") == wired.calls("two") == []
    assert len(wired.events("doctor.checked")) == 1


def test_one_json_object_a_line_says_the_same(wired: Project, run: Run) -> None:
    outcome = run("doctor", "--offline", "--json")
    assert outcome.code == 0
    objects = [json.loads(line) for line in outcome.out.splitlines()]
    assert {tuple(each) for each in objects} == {
        ("area", "severity", "message", "remedy", "path", "line")
    }
    areas = list(dict.fromkeys(each["area"] for each in objects))
    assert areas == ["configuration", "trust", "mode", "audit", "clients", "hook", "identity"]


def test_offline_starts_no_upstream(wired: Project, run: Run) -> None:
    assert run("doctor", "--offline").code == 0
    assert wired.received("one") == []


def test_a_broken_configuration_cannot_be_looked_at(wired: Project, run: Run) -> None:
    (wired.root / "gateway.yaml").write_text("default_agent: tester\nmodes: x\n")
    outcome = run("doctor")
    assert outcome.code == 2
    first, remedy, _, last = outcome.out.splitlines()
    assert first.startswith("error    configuration: modes ")
    assert first.endswith("(gateway.yaml:2)")
    assert remedy.startswith("         -> ")
    assert last == "Found 1 error."


def test_no_configuration_at_all(wired: Project, run: Run) -> None:
    shutil.rmtree(wired.root / ".claude")
    for name in ("gateway.yaml", ".mcp.json"):
        (wired.root / name).unlink()
    outcome = run("doctor", "--json")
    assert outcome.code == 2
    (error,) = found(outcome.out, "error")
    assert error["message"].startswith("No configuration: looked in ")
    assert error["remedy"] == "run `gateway init`"


def test_nothing_is_started_that_nobody_accepted(wired: Project, run: Run) -> None:
    wired.accepting = False
    shutil.rmtree(Path(wired.env["HOME"]) / ".local")
    outcome = run("doctor", "--json")
    assert outcome.code == 2
    (trust,) = (each for each in found(outcome.out, "error") if each["area"] == "trust")
    assert "Nobody has accepted" in trust["message"]
    assert wired.received("one") == wired.received("two") == []


def test_an_upstream_that_is_held_is_not_started_and_the_others_are(
    wired: Project, run: Run
) -> None:
    accept(None, cwd=wired.root)
    wired.accepting = False
    wired.upstreams["two"]["args"] += ["changed"]
    wired.write()
    outcome = run("doctor", "--json")
    assert outcome.code == 1
    (held,) = found(outcome.out, "warning")
    assert "'two' is not started" in held["message"]
    assert wired.received("one")[0]["method"] == "initialize"
    assert wired.received("two") == []


def test_an_upstream_that_does_not_start_is_told_with_its_last_words(
    wired: Project, run: Run
) -> None:
    wired.script("two", exit_with=3, stderr="no TOKEN \x1b[2J\n")
    outcome = run("doctor")
    assert outcome.code == 2
    lines = outcome.out.splitlines()
    (at,) = (n for n, line in enumerate(lines) if line.startswith("error "))
    assert "two: " in lines[at]
    assert "no TOKEN" in lines[at]
    assert "\x1b" not in outcome.out
    assert "inherit_env" in lines[at + 1]
    assert lines[-1] == "Found 1 error."


def test_a_log_that_takes_no_record_keeps_everything_from_being_started(
    wired: Project, run: Run
) -> None:
    (wired.root / "file").write_text("")
    wired.settings["audit"] = {"directory": "file/audit"}
    wired.write()
    outcome = run("doctor", "--json")
    assert outcome.code == 2
    (error,) = found(outcome.out, "error")
    assert (error["area"], error["remedy"]) == ("audit", "name one that you can write to")
    assert wired.received("one") == []


def test_a_client_around_the_gateway_and_one_that_is_wired_wrongly(
    wired: Project, run: Run
) -> None:
    clients(wired, gone=["gone", "--hook"], two=["two", "--agent", "nobody"])
    entry = {"command": sys.executable, "args": wired.upstreams["one"]["args"]}
    editor = wired.root / ".vscode" / "mcp.json"
    editor.parent.mkdir()
    editor.write_text(json.dumps({"servers": {"mine": entry}}))
    outcome = run("doctor", "--offline", "--json")
    assert outcome.code == 2
    assert [each["message"].partition(": ")[0] for each in found(outcome.out, "error")] == [
        "Claude Code, gone",
        "Claude Code, two",
    ]
    (around,) = found(outcome.out, "warning")
    assert (around["path"], around["line"]) == (str(editor), 1)
    assert "reaches the upstream 'one' directly" in around["message"]


def test_a_clients_file_that_cannot_be_read(wired: Project, run: Run) -> None:
    (wired.root / ".mcp.json").write_text("{\n,}")
    outcome = run("doctor", "--offline", "--json")
    assert outcome.code == 2
    (error,) = found(outcome.out, "error")
    assert (error["area"], error["line"]) == ("clients", 2)


def test_inline_servers_of_agent_files(wired: Project, run: Run) -> None:
    text = (
        "---\nname: other\ndescription: d\ntools: Read\nmcpServers:\n"
        "  - one: {type: stdio, command: x}\n  - own: {type: stdio, command: y}\n---\n"
    )
    (wired.root / ".claude/agents/other.md").write_text(text)
    outcome = run("doctor", "--offline", "--json")
    assert outcome.code == 2
    (taken,) = found(outcome.out, "error")
    assert (taken["path"], taken["line"]) == (".claude/agents/other.md", 6)
    assert taken["remedy"] == "give it another name"
    (around,) = found(outcome.out, "warning")
    assert (around["line"], "around the gateway" in around["message"]) == (7, True)
    assert around["remedy"].startswith("move the entry to `upstreams:`")


def test_tokens_of_this_configuration_are_counted(wired: Project, run: Run) -> None:
    assert run("token", "create", "tester").code == 0
    outcome = run("doctor", "--offline", "--json")
    assert outcome.code == 0
    (tokens,) = (each for each in found(outcome.out, "ok") if each["area"] == "tokens")
    assert tokens["message"] == "1 active, 0 expired"
    wired.settings["http"] = {"anonymous": "loopback"}
    wired.write()
    outcome = run("doctor", "--offline", "--json")
    assert outcome.code == 1
    assert [each["area"] for each in found(outcome.out, "warning")] == ["tokens"]


def test_a_named_configuration_is_named_in_the_remedies(wired: Project, run: Run) -> None:
    wired.settings["mode"] = "observe"
    wired.write()
    (wired.root / "gateway.yaml").rename(wired.root / "my own.yaml")
    outcome = run("doctor", "--json", "-c", "my own.yaml")
    (mode,) = (each for each in found(outcome.out, "warning") if each["area"] == "mode")
    assert "`gateway enforce -c 'my own.yaml'`" in mode["remedy"]
    passed = [each["message"] for each in found(outcome.out, "ok") if each["area"] == "upstreams"]
    assert [message.partition(":")[0] for message in passed] == ["one", "two"]


def test_after_init_all_is_well_but_for_observing(wired: Project, run: Run) -> None:
    servers = {"mcpServers": wired.upstreams}
    for name in ("gateway.yaml", ".claude/settings.json"):
        (wired.root / name).unlink()
    (wired.root / ".mcp.json").write_text(json.dumps(servers))
    wired.accepting = False
    assert run("init", "--yes").code == 0
    outcome = run("doctor", "--json")
    assert outcome.code == 1
    assert [each["area"] for each in found(outcome.out, "warning", "error")] == ["mode"]
    assert run("enforce").code == 0
    assert run("doctor").out.endswith("\nAll is well.\n")


def test_every_finding_has_a_remedy(wired: Project, run: Run) -> None:
    clients(wired, one=["--all", "--agent", "nobody"], two=[], other=["gone"])
    (wired.root / ".claude/settings.json").unlink()
    wired.settings = {"http": {"anonymous": "loopback"}, "mode": "observe"}
    wired.upstreams["two"]["command"] = "no-such-program"
    wired.write()
    outcome = run("doctor", "--json")
    assert outcome.code == 2
    objects = found(outcome.out, "error", "warning")
    assert {each["area"] for each in objects} >= {"mode", "upstreams", "clients", "tokens"}
    assert all(each["remedy"] for each in objects)
