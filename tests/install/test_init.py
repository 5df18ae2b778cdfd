"""`gateway init` and `gateway enforce`: what they find, say, write and leave alone."""

import io
import json
from pathlib import Path

import pytest

from gateway.cli import main
from gateway.config.load import load
from gateway.config.trust import accept
from gateway.documents import read_yaml
from gateway.install.jsonc import Text
from gateway.install.program import Program, find_program
from tests.install.conftest import Person

ONE = {"mcpServers": {"srv": {"command": "npx", "args": ["it"]}}}


def settings(person: Person) -> object:
    return read_yaml(person.read("gateway.yaml"), path="gateway.yaml").value


class TestLeftAlone:
    def test_what_cannot_be_carried_is_named_and_stays(self, person: Person) -> None:
        servers = {
            "good": {"command": "x", "alwaysAllow": ["a"], "timeout": 5, "type": "stdio"},
            "login": {"type": "http", "url": "https://mcp.linear.app/mcp"},
            "asks": {"command": "x", "args": ["${input:a}"]},
            "has space": {"command": "x"},
            "a.b": {"command": "x"},
            "a_b": {"command": "x"},
            "wired": {"command": "gateway", "args": ["connect", "wired"]},
        }
        person.write(".cursor/mcp.json", {"mcpServers": servers})
        outcome = person.run("init", "--yes")
        assert outcome.code == 0
        after = json.loads(person.read(".cursor/mcp.json"))["mcpServers"]
        unchanged = [name for name in servers if after[name] == servers[name]]
        assert unchanged == ["login", "asks", "has space", "a_b", "wired"]
        told = [line for line in outcome.out.splitlines() if line.startswith("  ")]
        for name in unchanged:
            assert any(line.startswith(f"  {name} (") for line in told), name
        assert {key: after["good"][key] for key in ("alwaysAllow", "timeout", "type")} == {
            key: servers["good"][key] for key in ("alwaysAllow", "timeout", "type")
        }

    @pytest.mark.parametrize("path", [".mcp.json", "~/.claude.json", ".vscode/mcp.json"])
    def test_a_file_that_cannot_be_parsed_is_named_with_line_and_column(
        self, person: Person, path: str
    ) -> None:
        broken = '{\n  "mcpServers": {\n    "a": {"command": "x",, }\n  }\n}'
        person.write(path, broken)
        person.write(".cursor/mcp.json", ONE)
        outcome = person.run("init", "--yes")
        assert outcome.code == 1
        assert f"{person.at(path)}:3: Not valid JSON at column 26: " in outcome.out
        assert person.read(path) == broken
        assert "connect" in person.read(".cursor/mcp.json")

    def test_settings_that_cannot_be_parsed_keep_their_servers_from_being_wired(
        self, person: Person
    ) -> None:
        person.write(".mcp.json", ONE)
        person.write(".claude/settings.json", "{")
        before = person.everything()
        outcome = person.run("init", "--yes")
        assert outcome.code == 1
        assert "settings.json:1: Not valid JSON at column 2" in outcome.out
        assert person.everything() == before

    @pytest.mark.parametrize("hooks", [[], {"PreToolUse": {}}, "x"])
    def test_settings_of_an_odd_shape_are_a_mistake(self, person: Person, hooks: object) -> None:
        person.write(".mcp.json", ONE)
        person.write(".claude/settings.json", {"hooks": hooks})
        before = person.everything()
        outcome = person.run("init", "--yes")
        assert outcome.code == 2
        assert "settings.json:" in outcome.err
        assert person.everything() == before

    def test_two_clients_share_an_upstream_only_if_it_is_the_same(self, person: Person) -> None:
        person.write(".mcp.json", ONE)
        person.write(".vscode/mcp.json", {"servers": ONE["mcpServers"]})
        person.write(".cursor/mcp.json", {"mcpServers": {"srv": {"command": "other"}}})
        outcome = person.run("init", "--yes")
        assert "connect" in person.read(".vscode/mcp.json")
        assert json.loads(person.read(".cursor/mcp.json"))["mcpServers"]["srv"] == {
            "command": "other"
        }
        assert "has an upstream of this name that differs" in outcome.out


class TestIdentity:
    def test_the_hook_is_added_once_and_other_hooks_stay(self, person: Person) -> None:
        person.write(".mcp.json", ONE)
        mine = {"matcher": "Bash", "hooks": [{"type": "command", "command": "mine"}]}
        person.write(".claude/settings.json", {"hooks": {"PreToolUse": [mine], "Stop": []}})
        person.run("init", "--yes")
        person.run("init", "--yes", "--client", "claude-code")
        hooks = json.loads(person.read(".claude/settings.json"))["hooks"]
        assert hooks["Stop"] == []
        first, second = hooks["PreToolUse"]
        assert first == mine
        assert second["matcher"] == "*"
        (handler,) = second["hooks"]
        assert handler == {"type": "command", "command": find_program({}).hook(), "timeout": 10}

    def test_one_command_line_for_the_project_and_for_the_user(self, person: Person) -> None:
        # The client runs equal commands of two files once; two would announce each call twice.
        person.write(".mcp.json", ONE)
        person.write("~/.claude.json", {"mcpServers": {"mine": {"command": "m"}}})
        person.run("init", "--yes")
        assert person.read(".claude/settings.json") == person.read("~/.claude/settings.json")

    def test_a_missing_hook_is_added_to_servers_that_are_wired(self, person: Person) -> None:
        wired = {"command": "gateway", "args": ["connect", "srv", "--hook"]}
        person.write(".mcp.json", {"mcpServers": {"srv": wired}})
        assert person.run("init", "--yes").code == 0
        assert "hook" in person.read(".claude/settings.json")

    @pytest.mark.parametrize(
        ("agents", "arguments", "expected"),
        [
            (["one"], [], "one"),
            (["one", "two"], ["--agent", "two"], "two"),
            (["one", "two"], [], None),
            ([], [], None),
        ],
    )
    def test_a_client_without_a_hook_gets_one_agent_or_is_named(
        self, person: Person, agents: list[str], arguments: list[str], expected: str | None
    ) -> None:
        for agent in agents:
            person.agent(agent, "Read")
        person.write(".vscode/mcp.json", {"servers": ONE["mcpServers"]})
        outcome = person.run("init", "--yes", *arguments)
        args = json.loads(person.read(".vscode/mcp.json"))["servers"]["srv"]["args"]
        named = args[args.index("--agent") + 1] if "--agent" in args else None
        assert named == expected
        assert ("set default_agent" in outcome.out) is (expected is None)

    @pytest.mark.parametrize("option", ["--agent", "--main-thread", "--builtin-agents"])
    def test_an_unknown_agent_is_a_mistake(self, person: Person, option: str) -> None:
        person.agent("one", "Read")
        person.write(".mcp.json", ONE)
        outcome = person.run("init", "--yes", option, "nobody")
        assert outcome.code == 2
        assert "there is no agent 'nobody'; the defined ones are: one" in outcome.err

    def test_inline_servers_of_agent_files_are_told(self, person: Person) -> None:
        person.write(".mcp.json", ONE)
        text = (
            "---\nname: one\ndescription: d\ntools: Read\nmcpServers:\n"
            "  - srv: {type: stdio, command: x}\n  - own: {type: stdio, command: y}\n"
            "  - fine: {command: gateway, args: [connect, own, --agent, one]}\n  - byname\n---\n"
        )
        path = person.write(".claude/agents/one.md", text)
        outcome = person.run("init", "--yes")
        assert outcome.code == 1
        assert "one.md:6: error: the inline server 'srv' has the name of a server" in outcome.out
        assert "one.md:7: warning: the agent reaches its inline server 'own'" in outcome.out
        assert "[connect, own, --agent, one]" in outcome.out
        assert "'fine'" not in outcome.out
        assert path.read_text() == text

    def test_agents_of_the_user_are_read_too(self, person: Person) -> None:
        person.agent("mine", "mcp__srv__x", "~/.claude/agents")
        person.agent("ours", "mcp__srv__x")
        person.write(".mcp.json", ONE)
        assert person.run("init", "--yes").code == 0
        loaded = load(None, cwd=person.root, trusted=False)
        assert set(loaded.snapshot.agents) >= {"mine", "ours"}

    def test_the_client_may_keep_its_own_files_elsewhere(
        self, person: Person, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        elsewhere = person.home / "elsewhere"
        monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(elsewhere))
        person.agent("mine", "mcp__mine__x", "~/elsewhere/agents")
        person.write("~/elsewhere/.claude.json", {"mcpServers": {"mine": {"command": "m"}}})
        person.write("~/.claude.json", ONE)
        before = person.everything()
        assert person.run("init", "--yes").code == 0
        assert "connect" in person.read("~/elsewhere/.claude.json")
        assert "hook" in person.read("~/elsewhere/settings.json")
        assert set(load(None, cwd=person.root, trusted=False).snapshot.agents) >= {"mine"}
        assert person.run("uninstall", "--yes").code == 0
        assert person.everything() == before


class TestConfiguration:
    def test_observe_is_the_start_and_enforce_an_option(self, person: Person) -> None:
        person.agent("one", "Read")
        person.write(".mcp.json", ONE)
        arguments = ("--enforce", "--main-thread", "one", "--builtin-agents", "observe")
        assert person.run("init", "--yes", *arguments).code == 0
        assert settings(person) == {
            "mode": "enforce",
            "main_thread": "one",
            "builtin_agents": "observe",
            "native_tools": "enforce",
            "upstreams": {"srv": {"command": "npx", "args": ["it"]}},
        }

    def test_an_existing_file_keeps_its_text(self, person: Person) -> None:
        person.write("gateway.yaml", "# mine\nupstreams:\n  # old\n  old: {command: x} # y\n")
        accept(None, cwd=person.root)
        person.write(".mcp.json", ONE)
        before = person.everything()
        assert person.run("init", "--yes").code == 0
        text = person.read("gateway.yaml")
        assert text.startswith("# mine\nupstreams:\n  srv:\n")
        assert text.endswith("  # old\n  old: {command: x} # y\n")
        assert load(None, cwd=person.root, trusted=False).held == ()
        assert person.run("uninstall", "--yes").code == 0
        assert person.everything() == before

    def test_what_nobody_has_seen_is_not_accepted_by_running_init(self, person: Person) -> None:
        person.write("gateway.yaml", "upstreams:\n  evil: {command: rm}\n")
        person.write(".mcp.json", ONE)
        outcome = person.run("init", "--yes")
        assert outcome.code == 0
        assert "run `gateway trust`" in outcome.out
        loaded = load(None, cwd=person.root, trusted=False)
        assert loaded.snapshot.upstreams["evil"].held

    def test_an_include_of_the_rewired_file_goes(self, person: Person) -> None:
        person.write("gateway.yaml", "include: .mcp.json\n# mine\ndefault_agent: one\n")
        person.agent("one", "mcp__srv")
        person.write(".mcp.json", ONE)
        before = person.everything()
        assert person.run("init", "--yes").code == 0
        assert person.read("gateway.yaml").startswith("# mine\ndefault_agent: one\nupstreams:\n")
        assert set(load(None, cwd=person.root, trusted=True).settings.upstreams) == {"srv"}
        person.run("uninstall", "--yes")
        assert person.everything() == before

    def test_what_cannot_be_added_safely_stops_everything(self, person: Person) -> None:
        person.write("gateway.yaml", "upstreams: {old: {command: x}}\n")
        person.write(".mcp.json", ONE)
        before = person.everything()
        outcome = person.run("init", "--yes")
        assert outcome.code == 2
        assert "gateway.yaml:1: cannot be changed safely" in outcome.err
        assert "srv" in outcome.err
        assert person.everything() == before

    def test_another_project_has_the_users_servers_too(
        self, person: Person, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        person.write("~/.claude.json", {"mcpServers": {"mine": {"command": "m"}}})
        assert person.run("init", "--yes").code == 0
        other = tmp_path / "other"
        (other / ".claude").mkdir(parents=True)
        (other / ".mcp.json").write_text(json.dumps(ONE))
        monkeypatch.chdir(other)
        assert person.run("init", "--yes").code == 0
        assert set(load(None, cwd=other, trusted=False).settings.upstreams) == {"srv", "mine"}


class TestEnforce:
    def test_two_words_change_and_the_rest_stays(self, person: Person) -> None:
        person.write(".mcp.json", ONE)
        person.run("init", "--yes")
        before = person.read("gateway.yaml")
        dry = person.run("enforce", "--dry-run")
        assert dry.code == 0
        assert "+mode: enforce" in dry.out
        assert person.read("gateway.yaml") == before
        assert person.run("enforce").code == 0
        after = person.read("gateway.yaml")
        changed = zip(before.splitlines(), after.splitlines(), strict=True)
        assert [new.split()[:2] for old, new in changed if new != old] == [
            ["mode:", "enforce"],
            ["native_tools:", "enforce"],
        ]
        loaded = load(None, cwd=person.root, trusted=False)
        assert (loaded.settings.mode, loaded.settings.native_tools) == ("enforce", "enforce")
        assert loaded.held == ()
        again = person.run("enforce")
        assert "enforces already" in again.out

    def test_it_accepts_nothing_that_nobody_has_seen(self, person: Person) -> None:
        person.write(".mcp.json", ONE)
        person.run("init", "--yes")
        person.write("gateway.yaml", person.read("gateway.yaml") + "  evil: {command: rm}\n")
        outcome = person.run("enforce")
        assert outcome.code == 0
        assert "run `gateway trust`" in outcome.out
        loaded = load(None, cwd=person.root, trusted=False)
        assert loaded.snapshot.upstreams["evil"].held

    def test_what_observes_for_itself_is_named_and_left_alone(self, person: Person) -> None:
        person.write(".mcp.json", ONE)
        person.run("init", "--yes")
        agent = "---\nname: one\ndescription: d\ntools: mcp__srv__a\n---\n"
        person.write(".claude/agents/one.md", agent)
        mine = "agents:\n  one: {mode: observe}\npolicies: [policies]\n"
        person.write("gateway.yaml", person.read("gateway.yaml") + mine)
        rule = "rules: [{name: soon, tools: mcp__srv__*, effect: deny, observe: true}]\n"
        person.write("policies/soon.yaml", rule)
        for _ in range(2):
            outcome = person.run("enforce")
            assert outcome.code == 0
            told = [line for line in outcome.out.splitlines() if line.startswith("Still")]
            assert "the agent one (" in told[0]
            assert "the rule soon (policies/soon.yaml:1" in told[1]
        assert mine in person.read("gateway.yaml")

    def test_without_a_configuration_it_says_so(self, person: Person) -> None:
        person.write(".mcp.json", ONE)
        outcome = person.run("enforce")
        assert outcome.code == 2
        assert "there is no gateway.yaml" in outcome.err

    def test_the_users_own_configuration_is_named(self, person: Person) -> None:
        person.write(".mcp.json", ONE)
        person.write("~/.cursor/mcp.json", {"mcpServers": {"glob": {"command": "g"}}})
        person.run("init", "--yes")
        shared = person.at("~/.config/mcp-tool-gateway/gateway.yaml")
        assert f"gateway enforce -c {shared}" in person.run("enforce").out
        assert person.run("enforce", "-c", str(shared)).code == 0
        assert "mode: enforce" in shared.read_text()


class TestProgram:
    def test_its_name_where_path_leads_to_it_else_its_path(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        script = tmp_path / "venv/gateway"
        other = tmp_path / "bin/gateway"
        for path in (script, other):
            path.parent.mkdir()
            path.write_text("#!/bin/sh\n")
            path.chmod(0o755)
        monkeypatch.setattr("sys.argv", [str(script), "init"])
        named = Program(("gateway",), (str(script),))
        assert find_program({"PATH": str(script.parent)}) == named
        assert find_program({"PATH": str(other.parent)}).usual == (str(script),)
        other.unlink()
        other.symlink_to(script)
        assert find_program({"PATH": str(other.parent)}) == named

    def test_a_hook_is_quoted_for_the_shell(self) -> None:
        assert Program(("/a b/gateway",), ()).hook() == "'/a b/gateway' hook"


class TestOutput:
    def test_nothing_found_is_said(self, person: Person) -> None:
        outcome = person.run("init", "--yes")
        assert outcome.code == 0
        assert "No client has a server" in outcome.out
        assert "Nothing to change." in outcome.out.splitlines()
        assert person.everything() == {}

    def test_a_file_on_one_line_is_shown_line_by_line(self, person: Person) -> None:
        padding = {"padding": "x" * 300, **ONE}
        person.write(".mcp.json", json.dumps(padding))
        outcome = person.run("init", "--dry-run")
        assert '-      "command": "npx",' in outcome.out.splitlines()

    def test_what_files_say_cannot_fool_the_terminal(self, person: Person) -> None:
        evil = {"mcpServers": {"srv": {"command": "x\x1b[2J\u202e", "args": ["\r"]}}}
        person.write(".mcp.json", json.dumps(evil, ensure_ascii=False))
        outcome = person.run("init", "--dry-run")
        assert not any(character in outcome.out for character in "\x1b\u202e\r")

    def test_the_commands_are_listed(self, capfd: pytest.CaptureFixture[str]) -> None:
        assert main.run(["--help"]) == 0
        listed = capfd.readouterr().out
        assert all(f"\n  {name} " in listed for name in ("init", "uninstall", "enforce"))

    def test_comments_of_a_commented_file_are_in_the_diff_only_as_context(
        self, person: Person
    ) -> None:
        person.write(".mcp.json", '{ // c\n"mcpServers": {"srv": {"command": "x"}}}')
        person.run("init", "--yes")
        assert Text(person.read(".mcp.json"), path="").find("mcpServers", "srv", "args")


class Terminal(io.StringIO):
    """What a person types."""

    def isatty(self) -> bool:
        return True


class TestAsking:
    def test_a_person_is_asked_who_calls_and_whether_to_go_on(
        self, person: Person, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        person.agent("one", "Read")
        person.write(".mcp.json", ONE)
        before = person.everything()
        monkeypatch.setattr("sys.stdin", Terminal("one\n\nn\n"))
        assert person.run("init").code == 130
        assert person.everything() == before
        monkeypatch.setattr("sys.stdin", Terminal("one\n\ny\n"))
        assert person.run("init").code == 0
        value = settings(person)
        assert isinstance(value, dict)
        assert (value["main_thread"], value["builtin_agents"]) == ("one", "observe")
        monkeypatch.setattr("sys.stdin", Terminal("n\n"))
        assert person.run("uninstall").code == 130
        monkeypatch.setattr("sys.stdin", Terminal("y\n"))
        assert person.run("uninstall").code == 0
        assert person.everything() == before

    def test_nothing_is_asked_where_all_is_done(
        self, person: Person, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        person.write(".mcp.json", ONE)
        person.run("init", "--yes")
        monkeypatch.setattr("sys.stdin", Terminal(""))
        assert person.run("init").code == 0
