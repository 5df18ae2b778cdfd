"""The self-test goes the ways of a client: real gateways, real upstreams, the real hook."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.audit.reader import read_journals
from gateway.config.directories import audit_directory
from gateway.config.load import load
from gateway.config.trust import accept
from gateway.install.program import Program, find_program
from gateway.install.selftest import Passage, pass_through, try_hook
from tests.install.conftest import Person

CANARY = Path(__file__).parents[1] / "upstreams" / "canary.py"
PROGRAM = find_program({})


def configured(person: Person, **upstreams: dict[str, Any]) -> None:
    settings = {"upstreams": upstreams, "main_thread": "observe"}
    person.write("gateway.yaml", json.dumps(settings))
    accept(None, cwd=person.root)


def canary(person: Person, **script: object) -> dict[str, Any]:
    person.write("script.json", json.dumps(script))
    files = {"CANARY_LOG": person.at("received"), "CANARY_SCRIPT": person.at("script.json")}
    return {
        "command": sys.executable,
        "args": ["-I", "-S", str(CANARY)],
        "env": {name: str(path) for name, path in files.items()},
    }


def passage(person: Person, upstream: str, program: Program = PROGRAM) -> Passage:
    loaded = load(None, cwd=person.root, trusted=False)
    return asyncio.run(
        pass_through(
            upstream,
            program=program,
            config=None,
            audit=audit_directory(loaded.settings),
            start_timeout_s=5,
        )
    )


def records(person: Person) -> list[dict[str, Any]]:
    audit = audit_directory(load(None, cwd=person.root, trusted=False).settings)
    return [json.loads(entry.line) for entry in read_journals(audit, lambda problem: None)]


class TestPassage:
    def test_tools_are_counted_and_only_what_does_not_exist_is_called(self, person: Person) -> None:
        configured(person, srv=canary(person, tools=[{"name": "a", "inputSchema": {}}]))
        assert passage(person, "srv") == Passage("srv", 1)
        received = [json.loads(line) for line in person.read("received").splitlines()]
        assert {each["method"] for each in received} == {
            "initialize",
            "notifications/initialized",
            "tools/list",
        }
        (refused,) = (each for each in records(person) if each["kind"] == "decision")
        assert refused["tool"].startswith("mcp__srv__self-test-")
        assert refused["decision"] == "deny"

    def test_an_upstream_that_does_not_start_says_why(self, person: Person) -> None:
        configured(person, srv=canary(person, exit_with=3, stderr="no TOKEN\n"))
        found = passage(person, "srv")
        assert "exited with status 3" in found.problem
        assert "no TOKEN" in found.problem

    def test_a_gateway_that_does_not_start_says_why(self, person: Person) -> None:
        configured(person, srv=canary(person))
        assert "there is no upstream 'other'" in passage(person, "other").problem

    @pytest.mark.parametrize(
        ("program", "expected"),
        [
            ("import sys; sys.exit('a word')", "a word"),
            ("pass", "the gateway ended without a word"),
            ("print('no JSON')", "the gateway ended without a word"),
        ],
    )
    def test_another_program_in_its_place_is_told_from_it(
        self, person: Person, program: str, expected: str
    ) -> None:
        configured(person, srv=canary(person))
        argv = (sys.executable, "-I", "-S", "-c", program)
        assert passage(person, "srv", Program(argv, argv)).problem == expected

    def test_a_refusal_that_is_not_in_the_log_is_told(self, person: Person) -> None:
        configured(person, srv=canary(person))
        elsewhere = person.root / "elsewhere"
        elsewhere.mkdir(mode=0o700)
        found = asyncio.run(
            pass_through("srv", program=PROGRAM, config=None, audit=elsewhere, start_timeout_s=5)
        )
        assert "is not in the audit log" in found.problem


class TestHook:
    def test_this_program_refuses_a_write_and_records_that(self, person: Person) -> None:
        configured(person, srv=canary(person))
        before = person.read("gateway.yaml")
        trial = try_hook(PROGRAM.hook(), person.root, PROGRAM)
        assert (trial.problem, trial.started) == ("", True)
        assert person.read("gateway.yaml") == before
        (record,) = (each for each in records(person) if each["kind"] == "decision")
        assert (record["session"], record["rule"]) == ("gateway-doctor", "protected file")

    def test_nothing_governs_here(self, person: Person) -> None:
        trial = try_hook(PROGRAM.hook(), person.root, PROGRAM)
        assert "does not find this project's configuration" in trial.problem

    def test_a_configuration_that_cannot_be_used(self, person: Person) -> None:
        person.write("gateway.yaml", "modes: x\n")
        trial = try_hook(PROGRAM.hook(), person.root, PROGRAM)
        assert trial.problem.startswith("answers: the gateway's configuration cannot be used")

    def test_a_command_line_that_it_does_not_take(self, person: Person) -> None:
        trial = try_hook(f"{PROGRAM.hook()} --no-such", person.root, PROGRAM)
        assert trial.problem.startswith("fails with exit code 2: ")
        assert "--no-such" in trial.problem

    def test_a_program_that_is_not_there(self, person: Person) -> None:
        trial = try_hook("/nowhere/gateway hook", person.root, PROGRAM)
        assert trial.problem == "cannot be started: there is no program '/nowhere/gateway'"
        assert try_hook("gateway 'hook", person.root, PROGRAM).problem.startswith("cannot be st")

    @pytest.mark.parametrize("arguments", ["hook", "hook -c x"])
    def test_what_a_project_brings_along_is_not_started(
        self, person: Person, arguments: str
    ) -> None:
        path = person.write("gateway", f"#!/bin/sh\ntouch {person.root}/started\n")
        path.chmod(0o700)
        trial = try_hook(f"{path} {arguments}", person.root, PROGRAM)
        assert not trial.started
        assert "starts another program" in trial.problem
        assert not person.at("started").exists()

    def test_what_only_a_shell_would_find_is_not_started(self, person: Person) -> None:
        trial = try_hook('"$CLAUDE_PROJECT_DIR"/gateway hook', person.root, PROGRAM)
        assert not trial.started

    def test_another_command_of_this_program_is_not_started(self, person: Person) -> None:
        command = f"{PROGRAM.hook().removesuffix(' hook')} uninstall hook"
        assert not try_hook(command, person.root, PROGRAM).started
