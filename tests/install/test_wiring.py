"""How clients reach their servers, as it is read from their files: through the gateway, around it,
and who calls."""

from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.connect import command as connect
from gateway.config.settings import HttpEntry, HttpSettings, Settings, StdioEntry, UpstreamEntry
from gateway.errors import UserError
from gateway.install.wiring import Hook, Wire, _command_line, read_hooks, read_wires
from tests.install.conftest import Person

GATEWAY = "gateway"


def settings(person: Person, *entries: UpstreamEntry) -> Settings:
    return Settings(
        root=str(person.root),
        path="gateway.yaml",
        digest="",
        upstreams={entry.name: entry for entry in entries},
        http=HttpSettings(port=8750, allowed_hosts=("gate.test",)),
    )


def stdio(name: str, command: str, *args: str) -> StdioEntry:
    return StdioEntry(name=name, path="gateway.yaml", line=1, command=command, args=args)


def http(name: str, url: str) -> HttpEntry:
    return HttpEntry(name=name, path="gateway.yaml", line=1, url=url)


def wires_of(person: Person, *entries: UpstreamEntry) -> list[Wire]:
    problems: list[UserError] = []
    wires = read_wires(settings(person, *entries), person.root, person.home, {}, problems)
    assert problems == []
    return wires


def one_wire(person: Person, name: str, entry: object, *entries: UpstreamEntry) -> Wire:
    person.write(".mcp.json", {"mcpServers": {name: entry}})
    (wire,) = wires_of(person, *entries)
    return wire


class TestThroughTheGateway:
    @pytest.mark.parametrize(
        ("args", "expected"),
        [
            (["srv", "--hook"], {"upstream": "srv", "hook": True}),
            (["--agent", "a", "srv"], {"upstream": "srv", "agent": "a"}),
            (["srv", "--agent=a"], {"upstream": "srv", "agent": "a"}),
            (["--all"], {"everything": True}),
            (["srv", "-c", "x/g.yaml"], {"upstream": "srv", "config": Path("x/g.yaml")}),
            (["srv", "--config=g.yaml"], {"upstream": "srv", "config": Path("g.yaml")}),
            (["-cg.yaml", "srv"], {"upstream": "srv", "config": Path("g.yaml")}),
            ([], {}),
        ],
    )
    def test_the_command_line_says_where_to_and_who(
        self, person: Person, args: list[str], expected: dict[str, object]
    ) -> None:
        wire = one_wire(person, "any", {"command": GATEWAY, "args": ["connect", *args]})
        usual = {"way": "connect", "program": GATEWAY}
        found = {name: getattr(wire, name) for name in (*usual, *_SAID)}
        assert found == {**_SAID, **usual, **expected}

    def test_an_editors_variable_and_the_environment_may_name_the_configuration(
        self, person: Person
    ) -> None:
        args = ["connect", "a", "-c", "${workspaceFolder}/gateway.yaml"]
        env = {"MCP_TOOL_GATEWAY_CONFIG": "/etc/g.yaml"}
        person.write(
            ".vscode/mcp.json",
            {
                "servers": {
                    "a": {"command": GATEWAY, "args": args},
                    "b": {"command": GATEWAY, "args": ["connect", "b"], "env": env},
                }
            },
        )
        first, second = wires_of(person)
        assert first.config == person.root / "gateway.yaml"
        assert second.config == Path("/etc/g.yaml")

    @pytest.mark.parametrize(
        ("url", "agent", "upstream"),
        [
            ("http://127.0.0.1:8750/srv/mcp", None, "srv"),
            ("http://localhost:8750/mcp", None, ""),
            ("https://gate.test:8750/agents/one/srv/mcp", "one", "srv"),
        ],
    )
    def test_a_url_of_the_service_is_a_way_through_it(
        self, person: Person, url: str, agent: str | None, upstream: str
    ) -> None:
        entry = {"type": "http", "url": url, "headers": {"authorization": "Bearer x"}}
        wire = one_wire(person, "srv", entry, stdio("srv", "x"))
        assert (wire.way, wire.agent, wire.upstream) == ("serve", agent, upstream)
        assert wire.bearer

    @pytest.mark.parametrize(
        "url",
        [
            "http://127.0.0.1:8751/srv/mcp",
            "http://127.0.0.1/srv/mcp",
            "http://other.test:8750/srv/mcp",
            "http://127.0.0.1:8750/unknown/mcp",
            "http://127.0.0.1:87500000/srv/mcp",
        ],
    )
    def test_another_url_is_not(self, person: Person, url: str) -> None:
        assert one_wire(person, "x", {"url": url}, stdio("srv", "x")).way == "around"


_SAID = {"upstream": "", "everything": False, "agent": None, "hook": False, "config": None}


class TestAround:
    @pytest.mark.parametrize(
        ("entry", "configured"),
        [
            ({"command": "npx", "args": ["-y", "@a/srv@2"]}, stdio("up", "npx", "@a/srv@1", "-x")),
            ({"command": "bunx", "args": ["@a/srv"]}, stdio("up", "npx", "-y", "@a/srv@latest")),
            ({"command": "uvx", "args": ["srv==1.0"]}, stdio("up", "uvx", "srv")),
            ({"command": "python3", "args": ["-m", "srv"]}, stdio("up", "python", "-m", "srv")),
            ({"command": "/opt/srv-mcp", "args": ["a"]}, stdio("up", "srv-mcp")),
            ({"command": r"C:\bin\srv.EXE"}, stdio("up", "srv")),
            ({"command": "docker", "args": ["run", "a"]}, stdio("up", "docker", "run", "a")),
            ({"url": "https://h.test/mcp/?key=s"}, http("up", "https://h.test/mcp")),
        ],
    )
    def test_the_same_server_under_another_name(
        self, person: Person, entry: object, configured: UpstreamEntry
    ) -> None:
        wire = one_wire(person, "other", entry, stdio("first", "something-else"), configured)
        assert (wire.way, wire.upstream) == ("around", "up")

    @pytest.mark.parametrize(
        ("entry", "configured"),
        [
            ({"command": "npx", "args": ["-y", "@a/one"]}, stdio("up", "npx", "-y", "@a/two")),
            ({"command": "docker", "args": ["run", "a"]}, stdio("up", "docker", "run", "b")),
            ({"command": "uvx", "args": ["--python", "3.12", "a"]}, stdio("up", "uvx", "3.12")),
            ({"url": "https://h.test/a"}, http("up", "https://h.test/b")),
            ({"command": "npx"}, stdio("up", "npx")),
            ({}, stdio("up", "x")),
            ({"command": 1, "url": 2, "args": 3}, stdio("up", "x")),
        ],
    )
    def test_another_server(self, person: Person, entry: object, configured: UpstreamEntry) -> None:
        if entry == {"command": "npx"}:
            configured = stdio("up", "npx", "a")
        wire = one_wire(person, "other", entry, configured)
        assert (wire.way, wire.upstream) == ("around", "")

    def test_the_same_name_whatever_it_starts(self, person: Person) -> None:
        wire = one_wire(person, "up", {"command": "a"}, stdio("b", "a"), stdio("up", "c"))
        assert wire.upstream == "up"

    def test_starting_the_gateway_for_something_else_is_no_way_through_it(
        self, person: Person
    ) -> None:
        assert one_wire(person, "x", {"command": GATEWAY, "args": ["serve"]}).way == "around"

    def test_no_argument_is_kept(self, person: Person) -> None:
        entry = {"command": "docker", "args": ["run", "hunter2"], "env": {"A": "hunter2"}}
        assert "hunter2" not in repr(one_wire(person, "x", entry))
        entry = {"command": "", "url": "https://h.test/?k=hunter2", "headers": {"B": "hunter2"}}
        assert "hunter2" not in repr(one_wire(person, "x", entry))


class TestWhatAClientTakes:
    def test_the_first_of_two_servers_of_one_name(self, person: Person) -> None:
        person.write(".mcp.json", {"mcpServers": {"a": {"command": GATEWAY, "args": ["connect"]}}})
        person.write("~/.claude.json", {"mcpServers": {"a": {"command": "x"}}})
        person.write(".cursor/mcp.json", {"mcpServers": {"a": {"command": "x"}}})
        found = [(wire.servers.client, wire.way) for wire in wires_of(person)]
        assert found == [("claude-code", "connect"), ("cursor", "around")]

    @pytest.mark.parametrize("off", [{"disabled": True}, {"enabled": False}])
    def test_no_server_that_is_disabled(self, person: Person, off: dict[str, bool]) -> None:
        person.write(".mcp.json", {"mcpServers": {"a": {"command": "x", **off}, "b": 5}})
        person.write("~/.claude.json", {"mcpServers": []})
        assert wires_of(person) == []

    def test_comments_are_read_over_and_lines_are_right(self, person: Person) -> None:
        person.write(".vscode/mcp.json", '// c\n{"servers": {\n  "a": {"command": "x"},\n}}\n')
        (wire,) = wires_of(person)
        assert (wire.line, wire.servers.path) == (3, person.root / ".vscode/mcp.json")

    def test_a_file_that_cannot_be_read_is_told_once_and_the_others_are_read(
        self, person: Person
    ) -> None:
        person.write("~/.claude.json", '{\n"mcpServers": {,}\n}')
        person.at(".vscode/mcp.json").mkdir(parents=True)
        person.write(".mcp.json", {"mcpServers": {"a": {"command": "x"}}})
        problems: list[UserError] = []
        wires = read_wires(settings(person), person.root, person.home, {}, problems)
        assert [wire.name for wire in wires] == ["a"]
        assert [(Path(str(each.path)).name, each.line) for each in problems] == [
            (".claude.json", 2),
            ("mcp.json", None),
        ]
        assert all(isinstance(each, UserError) for each in problems)


class TestHooks:
    def handler(self, command: str, **group: object) -> dict[str, object]:
        handlers = [{"type": "command", "command": command}]
        return {"hooks": {"PreToolUse": [{**group, "hooks": handlers}]}}

    def test_all_files_of_the_client_are_looked_at(self, person: Person) -> None:
        for path, command in (
            (".claude/settings.json", "gateway hook"),
            (".claude/settings.local.json", "/opt/gateway hook -c x"),
            ("~/.claude/settings.json", "gateway hook"),
        ):
            person.write(path, self.handler(command, matcher="*"))
        problems: list[UserError] = []
        found = read_hooks(person.root, person.home, {}, problems)
        assert (found.off, problems) == (None, [])
        assert found.installed == (
            Hook(person.at(".claude/settings.json"), "gateway hook", "*"),
            Hook(person.at("~/.claude/settings.json"), "gateway hook", "*"),
            Hook(person.at(".claude/settings.local.json"), "/opt/gateway hook -c x", "*"),
        )

    def test_hooks_of_others_and_odd_settings_are_none(self, person: Person) -> None:
        person.write(".claude/settings.json", self.handler("mine hook"))
        person.write(".claude/settings.local.json", {"hooks": {"PreToolUse": [5, {"hooks": 5}]}})
        person.write("~/.claude/settings.json", "[]")
        assert read_hooks(person.root, person.home, {}, []).installed == ()

    @pytest.mark.parametrize(
        ("group", "every"),
        [({}, True), ({"matcher": "*"}, True), ({"matcher": ""}, True), ({"matcher": "B"}, False)],
    )
    def test_the_matcher_tells_before_which_tools(
        self, person: Person, group: dict[str, str], every: bool
    ) -> None:
        person.write(".claude/settings.json", self.handler("gateway hook", **group))
        (hook,) = read_hooks(person.root, person.home, {}, []).installed
        assert hook.sees_every_tool is every

    def test_settings_that_switch_hooks_off_are_named(self, person: Person) -> None:
        path = person.write("~/.claude/settings.json", {"disableAllHooks": True})
        assert read_hooks(person.root, person.home, {}, []).off == path


WORDS = st.lists(
    st.sampled_from(
        ["--all", "--hook", "--agent", "--agent=b", "-c", "-cd", "--config", "--config=e", "srv"]
    ),
    max_size=6,
)


@given(WORDS)
def test_a_command_line_is_read_as_gateway_connect_reads_it(words: list[str]) -> None:
    try:
        context = connect.make_context("connect", list(words))
    except click.UsageError:
        return  # what the command refuses need not be read in any way
    said = context.params
    operand, options = _command_line(words)
    config = said["config"]
    assert operand == (said["upstream"] or "")
    assert options.get("--agent") == said["agent"]
    assert options.get("-c") == (None if config is None else str(config))
    assert ("--all" in options, "--hook" in options) == (said["everything"], said["hook"])
