"""What is found, and what is to be done about it: each finding names its place and its remedy."""

import json
import shutil
from pathlib import Path

import pytest

from gateway.config.load import Loaded, load
from gateway.config.settings import HttpEntry, HttpSettings, StdioEntry
from gateway.config.trust import accept
from gateway.errors import UserError
from gateway.identity.tokens import create_token
from gateway.install.diagnosis import (
    Diagnosis,
    of_audit,
    of_configuration,
    of_error,
    of_hooks,
    of_passage,
    of_tokens,
    of_wires,
)
from gateway.install.program import find_program
from gateway.install.selftest import Passage
from gateway.install.wiring import Configurations, read_hooks, read_wires
from tests.install.conftest import Person

PROGRAM = find_program({})
COMMAND = PROGRAM.absolute[0]
UPSTREAMS = {"srv": {"command": "/opt/srv"}}


def loaded(person: Person, *, trusted: bool = True, **settings: object) -> Loaded:
    """The project's configuration, accepted where `trusted`."""
    person.write("gateway.yaml", json.dumps({"upstreams": UPSTREAMS, **settings}))
    if trusted:
        accept(None, cwd=person.root)
    return load(None, cwd=person.root, trusted=False)


def clients(person: Person, configuration: Loaded) -> list[Diagnosis]:
    wires = read_wires(configuration.settings, person.root, person.home, {}, [])
    environ = {"HOME": str(person.home)}
    return list(of_wires(wires, configuration, Configurations(person.root, environ)))


def wired(person: Person, *args: str, path: str = ".mcp.json", section: str = "mcpServers") -> None:
    entry = {"command": COMMAND, "args": ["connect", *args]}
    person.write(path, {section: {"srv": entry}})


def hook(person: Person, configuration: Loaded) -> list[Diagnosis]:
    wires = read_wires(configuration.settings, person.root, person.home, {}, [])
    found = read_hooks(person.root, person.home, {}, [])
    return list(of_hooks(found, wires, configuration, person.root, PROGRAM))


def install_hook(
    person: Person, command: str = "", path: str = ".claude/settings.json", matcher: str = "*"
) -> None:
    handler = {"type": "command", "command": command or PROGRAM.hook()}
    group = {"matcher": matcher, "hooks": [handler]}
    person.write(path, {"hooks": {"PreToolUse": [group]}})


class TestConfiguration:
    def test_all_mistakes_are_told_with_file_line_and_remedy(self, person: Person) -> None:
        person.write("gateway.yaml", "mode: x\nmodes: y\n")
        with pytest.raises(UserError) as caught:
            load(None, cwd=person.root, trusted=False)
        found = list(of_error("configuration", caught.value))
        assert [(each.severity, each.path, each.line) for each in found] == [
            ("error", "gateway.yaml", 1),
            ("error", "gateway.yaml", 2),
        ]
        assert all(each.remedy for each in found)

    def test_in_order_and_enforced(self, person: Person) -> None:
        person.agent("one", "mcp__srv")
        found = list(of_configuration(loaded(person), ""))
        assert [(each.area, each.severity) for each in found] == [
            ("configuration", "ok"),
            ("trust", "ok"),
            ("mode", "ok"),
        ]

    def test_nothing_accepted_is_an_error(self, person: Person) -> None:
        person.agent("one", "mcp__srv")
        found = list(of_configuration(loaded(person, trusted=False), " -c it.yaml"))
        (trust,) = (each for each in found if each.area == "trust")
        assert (trust.severity, trust.path, trust.line) == ("error", "gateway.yaml", 1)
        assert "`gateway trust -c it.yaml`" in trust.remedy

    def test_what_is_held_is_a_warning_each(self, person: Person) -> None:
        person.agent("one", "mcp__srv__a")
        loaded(person)
        person.agent("one", "mcp__srv__a, mcp__srv__b")
        more = {**UPSTREAMS, "new": {"command": "x"}}
        found = list(of_configuration(loaded(person, trusted=False, upstreams=more), ""))
        trust = [each for each in found if each.area == "trust"]
        assert [(each.severity, each.path) for each in trust] == [
            ("warning", "gateway.yaml"),
            ("warning", ".claude/agents/one.md"),
        ]
        assert "'new' is not started" in trust[0].message

    def test_observe_is_a_warning_at_its_line(self, person: Person) -> None:
        found = list(of_configuration(loaded(person, mode="observe"), " -c g"))
        (mode,) = (each for each in found if each.area == "mode")
        assert (mode.severity, mode.path, mode.line) == ("warning", "gateway.yaml", 1)
        assert mode.remedy.startswith("run `gateway enforce -c g`")

    def test_no_agents_and_no_upstreams(self, person: Person) -> None:
        person.write("gateway.yaml", "default_agent:\n")
        accept(None, cwd=person.root)
        found = list(of_configuration(load(None, cwd=person.root, trusted=False), ""))
        assert [each.message for each in found if each.severity == "warning"] == [
            "there is no upstream",
            "no agent file is read",
        ]
        ceiling = loaded(person, main_thread=["mcp__srv"])
        assert not any(each.area == "agents" for each in of_configuration(ceiling, ""))

    def test_an_agent_file_that_denies_its_agent_is_an_error_and_warnings_are_counted(
        self, person: Person
    ) -> None:
        person.write(".claude/agents/bad.md", "---\nname: bad\ndescription: d\nTools: x\n---\n")
        person.agent("one", "mcp__srv, mcp__nowhere__a")
        found = [each for each in of_configuration(loaded(person), "") if each.area == "agents"]
        assert [(each.severity, each.path, each.line) for each in found] == [
            ("error", ".claude/agents/bad.md", 4),
            ("warning", "", 0),
        ]
        assert "there is 1 warning" in found[1].message
        assert "`gateway check`" in found[1].remedy


class TestAudit:
    def test_a_record_is_taken(self, person: Person) -> None:
        (found,) = of_audit(loaded(person))
        assert found.severity == "ok"
        (journal,) = Path(found.path).glob("journal/*")
        assert b'"doctor.checked"' in journal.read_bytes()

    def test_a_directory_that_cannot_be_written(self, person: Person) -> None:
        person.write("file", "")
        (found,) = of_audit(loaded(person, audit={"directory": "file/audit"}))
        assert (found.area, found.severity) == ("audit", "error")
        assert found.path.startswith(str(person.root / "file"))
        assert found.remedy == "name one that you can write to"

    def test_a_directory_that_others_can_read(self, person: Person) -> None:
        journals = person.root / "open" / "journal"
        journals.mkdir(parents=True)
        journals.chmod(0o755)
        (found,) = of_audit(loaded(person, audit={"directory": "open"}))
        assert (found.severity, found.remedy) == ("error", "run `chmod 700` on it")


def test_the_remedy_of_a_process_that_does_not_start_names_its_environment() -> None:
    entry = StdioEntry(name="srv", path="gateway.yaml", line=3, command="x")
    found = of_passage(Passage("srv", problem="it exited"), entry)
    assert (found.severity, found.path, found.line) == ("error", "gateway.yaml", 3)
    assert "inherit_env" in found.remedy
    remote = HttpEntry(name="srv", path="gateway.yaml", line=3, url="http://x")
    assert "headers" in of_passage(Passage("srv", problem="refused"), remote).remedy
    assert of_passage(Passage("srv", tools=2), entry).severity == "ok"


class TestClients:
    def test_nobody_is_wired(self, person: Person) -> None:
        (found,) = clients(person, loaded(person))
        assert (found.severity, found.remedy) == ("warning", "run `gateway init`")

    @pytest.mark.parametrize(
        ("name", "entry"),
        [
            ("srv", {"command": "x"}),
            ("other", {"command": "/opt/srv", "args": ["a"]}),
        ],
    )
    def test_wired_around_the_gateway(self, person: Person, name: str, entry: object) -> None:
        person.write(".mcp.json", {"mcpServers": {name: entry}})
        found = clients(person, loaded(person))[-1]
        assert (found.severity, found.line) == ("warning", 3)
        assert found.message == (
            f"Claude Code, {name}: reaches the upstream 'srv' directly, around the gateway"
        )

    def test_another_server_is_told_apart(self, person: Person) -> None:
        person.write(".mcp.json", {"mcpServers": {"other": {"command": "other"}}})
        found = clients(person, loaded(person))[-1]
        assert "nothing of it is decided or recorded" in found.message
        assert found.remedy.startswith("run `gateway init`")

    def test_an_upstream_that_is_not_configured(self, person: Person) -> None:
        wired(person, "gone", "--hook")
        (found,) = clients(person, loaded(person))
        assert (found.severity, found.path) == ("error", str(person.at(".mcp.json")))
        assert "connects to 'gone', which is not configured (there are: srv)" in found.message

    def test_the_users_own_configuration_serves_what_the_project_does_not(
        self, person: Person
    ) -> None:
        own = person.write(
            "~/.config/mcp-tool-gateway/gateway.yaml",
            {"upstreams": {"mine": {"command": "m"}}, "main_thread": "observe"},
        )
        wired(person, "mine", "--hook")
        (held,) = clients(person, loaded(person))
        assert (held.severity, held.remedy) == ("warning", f"run `gateway trust -c {own}`")
        accept(own, cwd=person.root)
        (found,) = clients(person, loaded(person))
        assert found.severity == "ok"
        assert f"by {own}; `gateway doctor -c {own}`" in found.message

    def test_a_configuration_that_a_wire_names_and_that_is_not_there(self, person: Person) -> None:
        wired(person, "srv", "--hook", "-c", "gone.yaml")
        (found,) = clients(person, loaded(person))
        assert found.severity == "error"
        assert "gone.yaml" in found.message

    def test_a_command_that_is_not_found(self, person: Person) -> None:
        entry = {"command": "/nowhere/gateway", "args": ["connect", "srv", "--hook"]}
        person.write(".mcp.json", {"mcpServers": {"srv": entry}})
        (found,) = clients(person, loaded(person))
        assert "'/nowhere/gateway' is not found" in found.message
        assert "PATH" in found.remedy

    @pytest.mark.parametrize("args", [[], ["srv", "--all"], ["srv", "--hook", "--agent", "one"]])
    def test_a_command_line_that_connect_refuses(self, person: Person, args: list[str]) -> None:
        person.agent("one", "mcp__srv")
        wired(person, *args)
        (found,) = clients(person, loaded(person))
        assert found.severity == "error"


class TestIdentity:
    def test_each_way_to_say_who_calls_is_named(self, person: Person) -> None:
        person.agent("one", "mcp__srv")
        wired(person, "srv", "--hook")
        wired(person, "srv", "--agent", "one", path=".vscode/mcp.json", section="servers")
        wired(person, "--all", path=".cursor/mcp.json")
        found = clients(person, loaded(person, default_agent="one"))
        assert [each.severity for each in found] == ["ok"] * 3
        assert [each.message.partition("; ")[2] for each in found] == [
            "the client's hook says which agent calls",
            "every call is the agent's 'one'",
            "every call is the default agent's 'one'",
        ]

    @pytest.mark.parametrize(("mode", "severity"), [("enforce", "error"), ("observe", "warning")])
    def test_an_agent_that_is_not_defined(self, person: Person, mode: str, severity: str) -> None:
        person.agent("one", "mcp__srv")
        wired(person, "srv", "--agent", "gone")
        (found,) = clients(person, loaded(person, mode=mode))
        assert found.severity == severity
        assert "'gone', whom no agent file defines" in found.message
        assert found.remedy == "name one of: one"

    def test_an_agent_that_may_use_nothing(self, person: Person) -> None:
        person.write(".claude/agents/one.md", "---\nname: one\ndescription: d\n---\n")
        wired(person, "srv", "--agent", "one")
        (found,) = clients(person, loaded(person))
        assert found.severity == "error"
        assert "who may use nothing: " in found.message
        assert "max_tools" in f"{found.message} {found.remedy}"

    @pytest.mark.parametrize(("mode", "severity"), [("enforce", "error"), ("observe", "warning")])
    def test_nobody_says_who_calls(self, person: Person, mode: str, severity: str) -> None:
        person.agent("one", "mcp__srv")
        wired(person, "srv")
        (found,) = clients(person, loaded(person, mode=mode))
        assert found.severity == severity
        assert "nothing says which agent calls" in found.message
        assert found.remedy == "add --hook to its args, or set default_agent in gateway.yaml"
        person.at(".mcp.json").rename(person.root / "moved")
        wired(person, "srv", path=".cursor/mcp.json")
        (found,) = clients(person, loaded(person, mode=mode))
        assert found.remedy.startswith("add --agent NAME to its args")

    def test_a_default_agent_that_nobody_accepted(self, person: Person) -> None:
        person.agent("one", "mcp__srv")
        wired(person, "srv")
        (found,) = clients(person, loaded(person, trusted=False, default_agent="one"))
        assert found.severity == "error"
        assert "`gateway trust`" in found.remedy

    def test_a_client_without_a_hook_cannot_use_one(self, person: Person) -> None:
        wired(person, "srv", "--hook", path=".cursor/mcp.json")
        (found,) = clients(person, loaded(person))
        assert (found.severity, found.remedy) == ("error", "write --agent NAME instead")

    @pytest.mark.parametrize(
        ("url", "headers", "http", "severity", "said"),
        [
            ("/srv/mcp", {"Authorization": "Bearer x"}, {}, "ok", "its token says"),
            ("/srv/mcp", {}, {}, "error", "every request is refused"),
            ("/srv/mcp", {}, {"anonymous": "loopback"}, "ok", "`gateway serve` was given"),
            ("/agents/one/mcp", {}, {"anonymous": "loopback"}, "ok", "the agent's 'one'"),
            ("/agents/two/mcp", {}, {"anonymous": "loopback"}, "error", "no agent file defines"),
        ],
    )
    def test_the_service(
        self,
        person: Person,
        url: str,
        headers: dict[str, str],
        http: dict[str, str],
        severity: str,
        said: str,
    ) -> None:
        person.agent("one", "mcp__srv")
        entry = {"type": "http", "url": f"http://127.0.0.1:8750{url}", "headers": headers}
        person.write(".mcp.json", {"mcpServers": {"srv": entry}})
        (found,) = clients(person, loaded(person, http=http))
        assert found.severity == severity
        assert said in found.message


class TestHook:
    def configured(self, person: Person, **settings: object) -> Loaded:
        wired(person, "srv", "--hook")
        return loaded(person, **{"main_thread": "observe", "builtin_agents": [], **settings})

    def test_in_order(self, person: Person) -> None:
        install_hook(person)
        found = hook(person, self.configured(person))
        assert [(each.area, each.severity) for each in found] == [
            ("hook", "ok"),
            ("identity", "ok"),
            ("identity", "ok"),
        ]
        assert [each.message for each in found[1:]] == [
            "the session itself: everything passes and is recorded (main_thread)",
            "the client's built-in agents: at most nothing (builtin_agents)",
        ]

    def test_not_installed(self, person: Person) -> None:
        (found,) = hook(person, self.configured(person))
        assert (found.severity, found.remedy) == ("error", "run `gateway init`")
        wired(person, "srv", "--agent", "one")
        assert hook(person, loaded(person)) == []

    def test_one_command_in_two_files_is_run_once_and_fine(self, person: Person) -> None:
        install_hook(person)
        install_hook(person, path="~/.claude/settings.json")
        found = hook(person, self.configured(person))
        assert [each.severity for each in found if each.area == "hook"] == ["ok"]

    def test_two_commands_are_an_error_that_names_both(
        self, person: Person, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", f"{Path(COMMAND).parent}:/usr/bin")
        install_hook(person)
        install_hook(person, "gateway hook", ".claude/settings.local.json")
        double, *each = hook(person, self.configured(person))
        assert double.severity == "error"
        for path in (".claude/settings.json", ".claude/settings.local.json"):
            assert str(person.at(path)) in double.message
        assert f"keep `{PROGRAM.hook()}`" in double.remedy
        assert [one.severity for one in each if one.area == "hook"] == ["ok", "ok"]

    @pytest.mark.parametrize(
        ("command", "severity", "said"),
        [
            ("/nowhere/gateway hook", "error", "cannot be started"),
            (f"{PROGRAM.hook()} --no-such", "error", "fails with exit code 2"),
            ("$HOME/bin/gateway hook", "warning", "was not tried"),
        ],
    )
    def test_a_command_that_does_not_do(
        self, person: Person, command: str, severity: str, said: str
    ) -> None:
        install_hook(person, command)
        found = hook(person, self.configured(person))[0]
        assert (found.severity, found.path) == (severity, str(person.at(".claude/settings.json")))
        assert said in found.message
        assert f"write `{PROGRAM.hook()}`" in found.remedy

    def test_a_narrow_matcher_and_disabled_hooks(self, person: Person) -> None:
        install_hook(person, matcher="mcp__.*")
        path = person.write("~/.claude/settings.json", {"disableAllHooks": True})
        found = [each for each in hook(person, self.configured(person)) if each.severity != "ok"]
        assert [(each.severity, each.path) for each in found] == [
            ("error", str(path)),
            ("warning", str(person.at(".claude/settings.json"))),
        ]

    @pytest.mark.parametrize("key", ["main_thread", "builtin_agents"])
    def test_nothing_stands_for_callers_without_a_file(self, person: Person, key: str) -> None:
        install_hook(person)
        found = hook(person, self.configured(person, **{key: None}))
        (warning,) = (each for each in found if each.severity == "warning")
        assert warning.message.startswith(f"{key} is not set, so calls of ")
        assert warning.remedy.startswith(f"set {key} in gateway.yaml")


class TestTokens:
    def test_nothing_is_said_where_nothing_hints_at_a_service(self, tmp_path: Path) -> None:
        assert list(of_tokens(tmp_path / "none", HttpSettings(), now_s=0)) == []

    def test_tokens_are_counted(self, tmp_path: Path) -> None:
        store = tmp_path / "tokens"
        for expires_s in (None, 50.0, 500.0):
            create_token(store, ["one"], label="", now_s=1, expires_s=expires_s)
        (found,) = of_tokens(store, HttpSettings(), now_s=100)
        assert (found.severity, found.message) == ("ok", "2 active, 1 expired")
        (found,) = of_tokens(store, HttpSettings(), now_s=10)
        assert found.message == "3 active, 0 expired"

    def test_a_service_that_nobody_can_call(self, tmp_path: Path) -> None:
        settings = HttpSettings(tokens=str(tmp_path / "none"))
        (found,) = of_tokens(tmp_path / "none", settings, now_s=0)
        assert (found.severity, found.remedy) == ("warning", "run `gateway token create AGENT`")

    def test_a_service_that_everybody_here_can_call(self, tmp_path: Path) -> None:
        (found,) = of_tokens(tmp_path / "none", HttpSettings(anonymous="loopback"), now_s=0)
        assert found.severity == "warning"
        assert found.message.startswith("http.anonymous is on")

    def test_a_store_that_others_can_reach_and_a_file_that_is_no_token(
        self, tmp_path: Path
    ) -> None:
        store = tmp_path / "tokens"
        create_token(store, ["one"], label="", now_s=1, expires_s=None)
        (store / "00000000.json").write_text("{}")
        (store / "00000000.json").chmod(0o600)
        broken, counted = of_tokens(store, HttpSettings(), now_s=10)
        assert (broken.severity, counted.message) == ("error", "1 active, 0 expired")
        store.chmod(0o755)
        (found,) = of_tokens(store, HttpSettings(), now_s=10)
        assert (found.severity, found.path) == ("error", str(store))


def test_the_gateway_is_where_these_tests_look_for_it() -> None:
    assert shutil.which(COMMAND) is not None
