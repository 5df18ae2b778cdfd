"""init and uninstall leave every file of a person byte for byte as it was."""

import json
import os
from pathlib import Path

import pytest

from gateway.config.load import load
from gateway.config.settings import HttpEntry, StdioEntry
from gateway.install.jsonc import Text
from tests.install.conftest import Person

LAYOUTS = {
    "two spaces": (
        '{\n  "mcpServers": {\n    "srv": {\n      "command": "npx",\n'
        '      "args": ["-y", "it"]\n    }\n  }\n}\n'
    ),
    "comments": (
        '// mine\n{\n  /* servers */ "mcpServers": {\n    "srv": { // one\n      "command": "npx", '
        '// two\n      "args": [\n        "-y", // three\n        "it", // four\n      ],\n'
        '      "env": {"A": "b"}, // five\n    },\n  },\n}\n// end\n'
    ),
    "tabs and CRLF": (
        '{\r\n\t"mcpServers": {\r\n\t\t"srv": {\r\n\t\t\t"command": "npx",\r\n'
        '\t\t\t"args": []\r\n\t\t}\r\n\t}\r\n}\r\n'
    ),
    "odd order": (
        '{"x":1,"mcpServers":{"srv":{"env":{},"timeout":5,"args":["a"],"type":"stdio",'
        '"command":"npx"}},"y":{}}'
    ),
    "unicode": (
        '{\n   "ключ": "\\u00e9\\ud83d\\ude00😀",\n'
        '   "mcpServers": {"srv": {"command": "прог", "args": ["é"]}}\n}'
    ),
    "byte order mark": '\ufeff{\n "mcpServers" : {\n  "srv" : { "command" : "npx" }\n }\n}',
    "empty lines": '\n\n{\n\n"mcpServers":\n{\n\n"srv":\n{\n\n"command":\n"npx"\n\n}\n\n}\n\n}\n\n',
}


def spread(person: Person) -> None:
    """Servers in every client's files."""
    person.agent("one", "mcp__project__x, Read")
    person.write(".mcp.json", {"mcpServers": {"project": {"command": "npx", "args": ["p"]}}})
    person.write(".vscode/mcp.json", '{\n\t// code\n\t"servers": {"code": {"command": "c"}},\n}')
    person.write(".cursor/mcp.json", {"mcpServers": {"cur": {"url": "http://127.0.0.1:1/mcp"}}})
    person.write(
        "~/.claude.json",
        {
            "numStartups": 3,
            "mcpServers": {"everywhere": {"type": "stdio", "command": "e", "env": {"K": "v"}}},
            "projects": {str(person.root): {"mcpServers": {"local": {"command": "l"}}, "z": 1}},
        },
    )
    person.write("~/.cursor/mcp.json", {"mcpServers": {"glob": {"command": "g"}}})
    person.write(
        "~/.config/Claude/claude_desktop_config.json", {"mcpServers": {"desk": {"command": "d"}}}
    )
    person.write(
        "~/.claude/settings.json",
        {
            "hooks": {
                "PreToolUse": [{"matcher": "Bash", "hooks": [{"type": "command", "command": "x"}]}]
            }
        },
    )


@pytest.mark.parametrize("layout", LAYOUTS)
class TestLayouts:
    @pytest.mark.parametrize("path", [".mcp.json", "~/.cursor/mcp.json"])
    def test_a_file_comes_back_byte_for_byte(self, person: Person, layout: str, path: str) -> None:
        person.write(path, LAYOUTS[layout])
        before = person.everything()
        assert person.run("init", "--yes").code == 0
        assert person.everything() != before
        rewired = Text(person.read(path), path=path)
        srv = rewired.value["mcpServers"]["srv"]
        assert srv["args"][:2] == ["connect", "srv"]
        again = person.run("init", "--yes")
        assert "Nothing to change." in again.out.splitlines()
        assert person.run("uninstall", "--yes").code == 0
        assert person.everything() == before
        assert person.installs() == []

    def test_what_people_wrote_stays_while_it_is_wired(self, person: Person, layout: str) -> None:
        person.write(".mcp.json", LAYOUTS[layout])
        person.run("init", "--yes")
        after = person.read(".mcp.json")
        for comment in ("// mine", "/* servers */", "// one", "// two", "// five", "// end"):
            assert (comment in after) == (comment in LAYOUTS[layout])
        for written in ("\r\n", "\t", "\ufeff", "ключ", "\\ud83d\\ude00😀", '"timeout":5'):
            assert (written in after) == (written in LAYOUTS[layout])

    def test_the_settings_of_the_client_come_back_too(self, person: Person, layout: str) -> None:
        person.write(".mcp.json", LAYOUTS["two spaces"])
        person.write(".claude/settings.json", LAYOUTS[layout])
        before = person.everything()
        assert person.run("init", "--yes").code == 0
        settings = Text(person.read(".claude/settings.json"), path="")
        assert settings.find("hooks", "PreToolUse", 0, "hooks", 0, "command") is not None
        assert person.run("uninstall", "--yes").code == 0
        assert person.everything() == before


class TestAllClients:
    def test_all_of_them_come_back(self, person: Person) -> None:
        spread(person)
        before = person.everything()
        outcome = person.run("init", "--yes")
        assert outcome.code == 0, outcome.err
        assert person.run("uninstall", "--yes").code == 0
        assert person.everything() == before
        assert person.installs() == []

    def test_each_is_wired_so_that_it_finds_its_configuration(self, person: Person) -> None:
        spread(person)
        person.run("init", "--yes")
        shared = str(person.at("~/.config/mcp-tool-gateway/gateway.yaml"))

        def args(path: str, *where: str) -> list[str]:
            node = Text(person.read(path), path=path).find(*where, "args")
            assert node is not None
            assert isinstance(node.value, list)
            return node.value

        claude = ("projects", str(person.root), "mcpServers")
        assert args(".mcp.json", "mcpServers", "project") == ["connect", "project", "--hook"]
        assert args("~/.claude.json", *claude, "local") == ["connect", "local", "--hook"]
        assert args("~/.claude.json", "mcpServers", "everywhere") == [
            *("connect", "everywhere", "--hook")
        ]
        editor = ["--agent", "one", "-c", "${workspaceFolder}/gateway.yaml"]
        assert args(".vscode/mcp.json", "servers", "code") == ["connect", "code", *editor]
        assert args(".cursor/mcp.json", "mcpServers", "cur") == ["connect", "cur", *editor]
        assert args("~/.cursor/mcp.json", "mcpServers", "glob") == ["connect", "glob", "-c", shared]
        desktop = "~/.config/Claude/claude_desktop_config.json"
        assert args(desktop, "mcpServers", "desk") == ["connect", "desk", "-c", shared]

    def test_the_configurations_load_and_are_accepted(self, person: Person) -> None:
        spread(person)
        person.run("init", "--yes")
        loaded = load(None, cwd=person.root, trusted=False)
        assert set(loaded.settings.upstreams) == {"project", "local", "code", "cur", "everywhere"}
        assert (loaded.settings.mode, loaded.settings.native_tools) == ("observe", "observe")
        assert loaded.held == ()
        entry = loaded.settings.upstreams["cur"]
        assert isinstance(entry, HttpEntry)
        assert entry.url == "http://127.0.0.1:1/mcp"
        shared = person.at("~/.config/mcp-tool-gateway/gateway.yaml")
        everywhere = load(shared, cwd=person.root, trusted=False)
        assert set(everywhere.settings.upstreams) == {"everywhere", "glob", "desk"}
        assert everywhere.held == ()
        entry = everywhere.settings.upstreams["everywhere"]
        assert isinstance(entry, StdioEntry)
        assert entry.env == {"K": "v"}

    def test_one_client_can_be_named(self, person: Person) -> None:
        spread(person)
        before = person.everything()
        assert person.run("init", "--yes", "--client", "vscode").code == 0
        changed = {path for path, what in person.everything().items() if before.get(path) != what}
        assert changed == {str(person.at(".vscode/mcp.json")), str(person.at("gateway.yaml"))}
        assert person.run("init", "--yes").code == 0
        assert person.run("uninstall", "--yes").code == 0
        assert person.everything() == before

    def test_a_home_that_is_the_project_has_nothing_twice(
        self, person: Person, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        spread(person)
        before = person.everything()
        monkeypatch.chdir(person.home)
        assert person.run("init", "--yes").code == 0
        assert not (person.home / "gateway.yaml").exists()
        assert person.run("uninstall", "--yes").code == 0
        assert person.everything() == before

    def test_a_subdirectory_of_the_project_will_do(
        self, person: Person, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        spread(person)
        (person.root / ".git").mkdir()
        (person.root / "deep/er").mkdir(parents=True)
        before = person.everything()
        monkeypatch.chdir(person.root / "deep/er")
        assert person.run("init", "--yes").code == 0
        assert (person.root / "gateway.yaml").exists()
        assert person.run("uninstall", "--yes").code == 0
        assert person.everything() == before


class TestFileSystem:
    def test_links_stay_links_and_modes_stay(self, person: Person) -> None:
        real = person.write("~/dotfiles/claude.json", {"mcpServers": {"srv": {"command": "x"}}})
        real.chmod(0o640)
        person.at("~/.claude.json").symlink_to("dotfiles/claude.json")
        before = person.everything()
        assert person.run("init", "--yes").code == 0
        assert "connect" in real.read_text()
        assert real.stat().st_mode & 0o777 == 0o640
        assert person.run("uninstall", "--yes").code == 0
        assert person.everything() == before

    def test_a_link_that_leads_nowhere_is_told_and_left(self, person: Person) -> None:
        person.at("~/.claude.json").symlink_to("nowhere")
        person.write(".mcp.json", LAYOUTS["two spaces"])
        outcome = person.run("init", "--yes")
        assert outcome.code == 1
        assert ".claude.json: is a link that leads nowhere; mend it" in outcome.out

    def test_backups_are_the_owners_only(self, person: Person) -> None:
        spread(person)
        mask = os.umask(0)
        try:
            person.run("init", "--yes")
        finally:
            os.umask(mask)
        for path in person.installs():
            assert path.stat().st_mode & 0o077 == 0, path
            assert path.parent.stat().st_mode & 0o077 == 0, path.parent

    def test_a_dry_run_changes_nothing_at_all(self, person: Person) -> None:
        spread(person)
        before = person.everything()
        outcome = person.run("init", "--dry-run")
        assert outcome.code == 0
        assert "+++ " + str(person.root / "gateway.yaml") in outcome.out.splitlines()
        assert person.everything() == before
        assert not (person.home / ".local").exists()

    def test_without_a_terminal_and_without_yes_nothing_changes(self, person: Person) -> None:
        spread(person)
        before = person.everything()
        outcome = person.run("init")
        assert outcome.code == 2
        assert outcome.err.endswith("look through the above and give --yes\n")
        assert "+++ " in outcome.out
        assert person.everything() == before
        person.run("init", "--yes")
        after = person.everything()
        assert person.run("uninstall").code == 2
        assert person.run("uninstall", "--dry-run").code == 0
        assert person.everything() == after


class TestRepetition:
    def test_what_comes_later_is_taken_in_and_given_back(self, person: Person) -> None:
        spread(person)
        person.run("init", "--yes")
        servers = json.loads(person.read(".mcp.json"))
        servers["mcpServers"]["later"] = {"command": "later", "args": ["x"]}
        person.write(".mcp.json", servers)
        assert person.run("init", "--yes").code == 0
        assert json.loads(person.read(".mcp.json"))["mcpServers"]["later"]["args"] == [
            *("connect", "later", "--hook")
        ]
        loaded = load(None, cwd=person.root, trusted=False)
        assert "later" in loaded.settings.upstreams
        assert loaded.held == ()
        assert person.run("uninstall", "--yes").code == 0
        assert json.loads(person.read(".mcp.json")) == {
            "mcpServers": {
                "project": {"command": "npx", "args": ["p"]},
                "later": {"command": "later", "args": ["x"]},
            }
        }
        assert not person.at("gateway.yaml").exists()

    def test_uninstall_without_init_does_nothing(self, person: Person) -> None:
        spread(person)
        before = person.everything()
        outcome = person.run("uninstall", "--yes")
        assert outcome.code == 0
        assert outcome.out.startswith("Nothing to take back")
        assert person.everything() == before
        assert not Path(person.home, ".local/state/mcp-tool-gateway/installs").exists()
