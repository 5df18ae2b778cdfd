"""`gateway check` tells what needs attention: in the files, in references, and upstream."""

import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

import psutil

from gateway.cli.check import command
from tests.cli.conftest import Project, Run


def objects(out: str, kind: str) -> list[dict[str, Any]]:
    return [each for each in map(json.loads, out.splitlines()) if each["kind"] == kind]


def codes(out: str) -> list[str]:
    return [finding["code"] for finding in objects(out, "finding")]


def agent_file(project: Project, name: str, header: str) -> None:
    path = project.root / ".claude/agents" / f"{name}.md"
    path.write_text(f"---\nname: {name}\ndescription: d\n{header}\n---\n")


class TestFiles:
    def test_upstreams_whose_names_are_alike_are_told_without_asking_them(
        self, project: Project, run: Run
    ) -> None:
        for name in ("supabase", "supabose"):
            project.offers(name, ["echo"])
        project.agent("tester", ["mcp__supabase__echo"])
        project.write()
        outcome = run("check", "--json")
        assert outcome.code == 1
        assert codes(outcome.out) == ["confusable-upstreams"]
        assert project.received("supabase") == []

    def test_a_project_in_order_is_fine_and_nothing_is_started(
        self, project: Project, run: Run
    ) -> None:
        project.offers("srv", ["echo"])
        project.agent("tester", ["Read", "mcp__srv__echo"])
        project.write()
        outcome = run("check")
        assert outcome.code == 0
        lines = outcome.out.splitlines()
        assert lines[0].startswith("Configuration: ")
        info = ".claude/agents/tester.md:4: info: Tools of the client, not governed here: Read."
        assert f"{info} [native-tools]" in lines
        assert ["tester", "srv", "1", "?", "?"] in [line.split() for line in lines]
        assert lines[-2:] == [
            "Nothing to correct.",
            "The upstreams were not asked what they offer: give --live.",
        ]
        assert project.received("srv") == []
        assert not (project.root / "audit").exists()

    def test_findings_of_agent_files_and_of_their_entries_are_told(
        self, project: Project, run: Run
    ) -> None:
        project.offers("srv", ["echo"])
        project.agent("tester", ["mcp__srv__echo", "mcp__nowhere__echo"])
        agent_file(project, "broken", "allowed-tools: mcp__srv")
        project.write()
        outcome = run("check")
        assert outcome.code == 1
        assert ".claude/agents/tester.md:6: warning: 'mcp__nowhere__echo' names no" in outcome.out
        assert ".claude/agents/broken.md:4: error: " in outcome.out
        assert "Found 1 error and 1 warning." in outcome.out.splitlines()

    def test_one_agent_can_be_asked_about(self, project: Project, run: Run) -> None:
        project.offers("srv", ["echo"])
        project.agent("tester", ["mcp__srv__echo"])
        project.agent("other", ["mcp__nowhere__echo", "mcp__srv__echo"])
        project.write()
        assert run("check").code == 1
        assert run("check", "--agent", "other").code == 1
        outcome = run("check", "--agent", "tester", "--json")
        assert outcome.code == 0
        assert [reach["agent"] for reach in objects(outcome.out, "reach")] == ["tester"]
        (finding,) = objects(run("check", "--agent", "other", "--json").out, "finding")
        assert (finding["agent"], finding["line"]) == ("other", 5)

    def test_an_unknown_agent_is_a_mistake(self, project: Project, run: Run) -> None:
        project.agent("tester", [])
        project.write()
        outcome = run("check", "--agent", "teste")
        assert (outcome.code, outcome.out) == (2, "")
        assert "gateway.yaml: there is no agent 'teste'" in outcome.err
        assert "the defined ones are: tester" in outcome.err

    def test_a_configuration_that_cannot_be_used_is_told_whole(
        self, project: Project, run: Run
    ) -> None:
        project.agent("tester", [])
        project.settings = {"upstream": {}, "default_agent": "nobody"}
        project.write()
        outcome = run("check", "--live", "--json")
        assert (outcome.code, outcome.out) == (2, "")
        assert len(outcome.err.splitlines()) == 2
        assert all(line.startswith("gateway.yaml:1: ") for line in outcome.err.splitlines())

    def test_no_configuration_at_all_cannot_run(self, project: Project, run: Run) -> None:
        (project.root / ".claude/agents").rmdir()
        outcome = run("check")
        assert outcome.code == 2
        assert "No configuration" in outcome.err

    def test_an_agent_that_inherits_is_told_only_where_it_is_to_be_served(
        self, project: Project, run: Run
    ) -> None:
        project.offers("srv", ["echo"])
        agent_file(project, "tester", "model: x")
        agent_file(project, "second", "model: x")
        project.write()
        outcome = run("check", "--json")
        assert outcome.code == 1
        (warning,) = (
            each for each in objects(outcome.out, "finding") if each["severity"] != "info"
        )
        assert (warning["code"], warning["agent"]) == ("agent-refused", "tester")
        assert "set agents.tester.max_tools in gateway.yaml" in warning["message"]
        assert run("check", "--agent", "second").code == 1
        agent_file(project, "tester", "tools: mcp__srv")
        assert run("check").code == 0
        agent_file(project, "tester", "model: x")
        project.settings = {"agents": {"tester": {"max_tools": ["mcp__srv__echo"]}}}
        project.write()
        assert run("check").code == 0

    def test_an_agent_that_inherits_and_whose_ceiling_takes_nothing_away_is_told(
        self, project: Project, run: Run
    ) -> None:
        project.offers("srv", ["echo"])
        agent_file(project, "tester", "model: x")
        project.settings = {"agents": {"tester": {"max_tools": ["mcp__srv"]}}}
        project.write()
        outcome = run("check", "--json")
        assert outcome.code == 1
        (note,) = (each for each in objects(outcome.out, "finding") if each["severity"] != "info")
        assert (note["code"], note["path"]) == ("inherits-everything", "gateway.yaml")
        assert "gateway audit suggest tester" in note["message"]
        project.offers("two", ["echo"])
        project.write()
        assert run("check").code == 0
        project.settings = {"agents": {"tester": {"max_tools": ["mcp__srv", "mcp__two"]}}}
        project.write()
        assert run("check").code == 1
        agent_file(project, "tester", "disallowedTools: mcp__two")
        project.write()
        assert run("check").code == 0


class TestClients:
    def test_a_server_by_which_a_client_goes_around_the_gateway_is_told(
        self, project: Project, run: Run
    ) -> None:
        project.offers("srv", ["echo"])
        project.agent("tester", ["mcp__srv__echo"])
        project.write()
        wired = {"command": "gateway", "args": ["connect", "srv", "--hook"]}
        client = project.root / ".mcp.json"
        client.write_text(json.dumps({"mcpServers": {"srv": wired, "other": {"command": "x"}}}))
        assert run("check").code == 0
        client.write_text('{"mcpServers": {\n"srv": {"command": "x"}}}')
        outcome = run("check", "--json")
        assert outcome.code == 1
        (finding,) = objects(outcome.out, "finding")
        assert (finding["code"], finding["upstream"]) == ("around-gateway", "srv")
        assert (finding["path"], finding["line"]) == (str(client), 2)
        client.write_text("{")
        assert run("check").code == 0


class TestReferences:
    def test_every_reference_without_a_value_is_told_where_it_stands(
        self, project: Project, run: Run
    ) -> None:
        project.agent("tester", [])
        for name, more in (
            ("one", {"env": {"X": "${NOT_SET_ONE}"}}),
            ("two", {"args": ["${file:missing}"]}),
            ("three", {"args": ["${HOME}"]}),
        ):
            project.canary(name, entry=more)
        project.upstreams["four"] = {
            "type": "http",
            "url": "http://127.0.0.1:9/mcp",
            "headers": {"X-Key": "${NOT_SET_FOUR}"},
        }
        project.write()
        outcome = run("check", "--json")
        assert outcome.code == 2
        findings = objects(outcome.out, "finding")
        assert {each["upstream"] for each in findings} == {"one", "two", "four"}
        assert {each["code"] for each in findings} == {"unresolved-reference"}
        assert {(each["severity"], each["path"]) for each in findings} == {
            ("error", "gateway.yaml")
        }
        text = run("check").out
        assert "Upstream one, env X: the environment variable NOT_SET_ONE is not set" in text
        assert "Upstream four, header X-Key: the environment variable NOT_SET_FOUR" in text

    def test_an_upstream_without_its_values_is_not_started(
        self, project: Project, run: Run
    ) -> None:
        project.offers("srv", ["echo"])
        project.upstreams["srv"]["env"]["X"] = "${NOT_SET_ONE}"
        project.agent("tester", ["mcp__srv__echo"])
        project.write()
        outcome = run("check", "--live", "--json")
        assert outcome.code == 2
        assert codes(outcome.out) == ["unresolved-reference"]
        assert project.received("srv") == []


class TestLive:
    def test_declared_tools_that_are_gone_are_told_with_their_likeliest_successor(
        self, project: Project, run: Run
    ) -> None:
        project.offers("srv", ["echo", "query_logs", "put.it"])
        project.offers("my.srv", ["two"])
        project.agent(
            "tester",
            ["mcp__srv__echo", "mcp__srv__get_logs", "mcp__srv__put_it", "mcp__my_srv__one"],
        )
        project.write()
        outcome = run("check", "--live", "--json")
        assert outcome.code == 1
        findings = objects(outcome.out, "finding")
        assert [(each["tool"], each["successor"], each["line"]) for each in findings] == [
            ("mcp__srv__get_logs", "mcp__srv__query_logs", 6),
            ("mcp__my_srv__one", None, 8),
        ]
        for each in findings:
            assert (each["code"], each["severity"]) == ("vanished-tool", "warning")
            assert (each["agent"], each["path"]) == ("tester", ".claude/agents/tester.md")
        reaches = {each["upstream"]: each for each in objects(outcome.out, "reach")}
        srv = reaches["srv"]
        assert (srv["declared"], srv["offered"], srv["reachable"]) == (3, 3, 2)
        mine = reaches["my.srv"]
        assert (mine["declared"], mine["offered"], mine["reachable"]) == (1, 1, 0)
        text = run("check", "--live").out
        assert "mcp__srv__get_logs is not offered by the upstream 'srv'; likeliest successor: " in (
            text
        )
        assert "likeliest successor: none; remove the entry" in text
        assert "give --live" not in text

    def test_nothing_is_called_or_recorded_and_the_upstreams_are_asked_as_ourselves(
        self, project: Project, run: Run
    ) -> None:
        project.offers("srv", ["echo", "b", "c"], pages=3)
        project.agent("tester", ["mcp__srv"])
        project.write()
        outcome = run("check", "--live", "--json")
        assert outcome.code == 0
        (reach,) = objects(outcome.out, "reach")
        assert (reach["whole"], reach["declared"], reach["reachable"]) == (True, 0, 3)
        received = project.received("srv")
        assert [message["method"] for message in received] == [
            "initialize",
            "notifications/initialized",
            *["tools/list"] * 3,
        ]
        handshake = received[0]["params"]
        assert handshake["clientInfo"]["name"] == "mcp-tool-gateway"
        assert handshake["capabilities"] == {}
        assert not (project.root / "audit").exists()

    def test_an_upstream_that_does_not_start_is_told_with_its_last_words(
        self, project: Project, run: Run
    ) -> None:
        project.offers("good", ["echo"])
        project.offers("bad", [], exit_with=3, stderr="first\nno token \x1b[2J\n")
        project.upstreams["absent"] = {"command": "no-such-program-anywhere"}
        project.agent("tester", ["mcp__good__echo", "mcp__bad__echo"])
        project.write()
        outcome = run("check", "--live", "--json")
        assert outcome.code == 2
        bad, absent = objects(outcome.out, "finding")
        assert (bad["code"], bad["severity"], bad["upstream"]) == (
            "upstream-failed",
            "error",
            "bad",
        )
        assert "exited with status 3" in bad["message"]
        assert "first\nno token" in bad["message"]
        assert absent["upstream"] == "absent"
        assert "there is no executable command 'no-such-program-anywhere'" in absent["message"]
        reaches = {each["upstream"]: each["reachable"] for each in objects(outcome.out, "reach")}
        assert reaches == {"good": 1, "bad": None}
        text = run("check", "--live").out
        assert "\x1b" not in text
        assert any(line.startswith("    no token") for line in text.splitlines())

    def test_an_upstream_that_gives_no_answer_is_not_waited_for_without_end(
        self, project: Project, run: Run
    ) -> None:
        project.offers("slow", [], start_delay_s=60, entry={"start_timeout_s": 0.3})
        project.agent("tester", [])
        project.write()
        started = time.monotonic()
        outcome = run("check", "--live")
        assert outcome.code == 2
        assert "'slow' is still starting" in outcome.out
        assert time.monotonic() - started < 20

    def test_an_upstream_that_has_no_tools_offers_none(self, project: Project, run: Run) -> None:
        project.upstreams["odd"] = {
            "command": sys.executable,
            "args": ["-I", "-S", "-c", _WITHOUT_TOOLS],
        }
        project.agent("tester", ["mcp__odd"])
        project.write()
        outcome = run("check", "--live", "--json")
        assert outcome.code == 0
        assert [reach["offered"] for reach in objects(outcome.out, "reach")] == [0]

    def test_withheld_tools_are_told(self, project: Project, run: Run) -> None:
        names = ["a.b", "a_b", "\u0435cho", *(f"\u0435{number}" for number in range(30))]
        project.offers("srv", names)
        project.agent("tester", [])
        project.write()
        outcome = run("check", "--live", "--json")
        assert outcome.code == 1
        findings = objects(outcome.out, "finding")
        assert {each["code"] for each in findings} == {"withheld-tool"}
        assert len(findings) == 21
        assert findings[-1]["message"] == "13 more tools of the upstream 'srv' are withheld."
        text = run("check", "--live").out
        assert "offers '\\u0435cho', which is withheld: " in text
        assert "clients spell 'a.b' and 'a_b' alike" in text

    def test_a_restriction_that_no_longer_bites_is_told(self, project: Project, run: Run) -> None:
        project.offers("srv", ["remove_all_files", "echo"])
        entries = "tools: mcp__srv\ndisallowedTools: mcp__srv__remove_files, mcp__srv__other"
        agent_file(project, "tester", entries)
        project.write()
        (finding,) = objects(run("check", "--live", "--json").out, "finding")
        assert (finding["code"], finding["line"]) == ("lost-restriction", 5)
        assert finding["tool"] == "mcp__srv__remove_files"
        assert finding["successor"] == "mcp__srv__remove_all_files"
        # Where the agent cannot call the successor either, nothing is lost.
        agent_file(project, "tester", entries.replace("mcp__srv\n", "mcp__srv__echo\n"))
        assert run("check", "--live").code == 0

    def test_processes_that_cling_to_life_are_ended(self, project: Project, run: Run) -> None:
        project.offers("srv", ["echo"], ignore_eof=True, ignore_term=True)
        project.agent("tester", ["mcp__srv__echo"])
        project.write()
        assert run("check", "--live").code == 0  # the fixture looks for what is left

    def test_a_terminated_check_leaves_nothing_behind(self, project: Project) -> None:
        project.offers("srv", ["echo"], answer_delay_s=60)
        project.agent("tester", ["mcp__srv__echo"])
        argv = project.argv("check", "--live")
        process = subprocess.Popen(argv, cwd=project.root, env=project.env)
        deadline = time.monotonic() + 20
        while not project.received("srv") and time.monotonic() < deadline:
            time.sleep(0.05)
        children = psutil.Process(process.pid).children(recursive=True)
        assert children
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 130
        assert [child for child in children if child.is_running()] == []


_WITHOUT_TOOLS = """
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message:
        continue
    answer = {"error": {"code": -32601, "message": "Method not found"}}
    if message["method"] == "initialize":
        answer = {"result": {"protocolVersion": "2025-11-25", "capabilities": {"prompts": {}},
                             "serverInfo": {"name": "odd", "version": "1"}}}
    print(json.dumps({"jsonrpc": "2.0", "id": message["id"], **answer}), flush=True)
"""


def test_the_help_says_what_the_exit_codes_mean() -> None:
    assert command.help is not None
    assert "exit code is 1" in command.help


def test_progress_is_shown_on_a_terminal_only(project: Project, run: Run) -> None:
    project.offers("srv", ["echo"])
    project.agent("tester", ["mcp__srv__echo"])
    argv = project.argv("check", "--live")
    main, other = os.openpty()
    try:
        env = {**project.env, "TERM": "dumb"}
        process = subprocess.run(
            argv, cwd=project.root, env=env, stdout=subprocess.PIPE, stderr=other, check=False
        )
        assert process.returncode == 0
        shown = os.read(main, 4096).decode()
    finally:
        os.close(main)
        os.close(other)
    assert "Asking srv" in shown
    assert "srv: 1 tools" in shown
    assert b"Asking" not in process.stdout
    assert run("check", "--live").err == ""
