"""Files that a person edited after init: uninstall takes back what init did, and only that."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.install.jsonc import Text
from gateway.install.reverting import revert_json, revert_lines
from tests.install.conftest import Outcome, Person

WORDS = st.sampled_from(["a", "b", "c", "env", "args"])
VALUES = st.recursive(
    st.integers(0, 3) | st.booleans() | st.text("xy", max_size=2),
    lambda inner: st.dictionaries(WORDS, inner, max_size=3) | st.lists(inner, max_size=2),
    max_leaves=8,
)
OBJECTS = st.dictionaries(WORDS, VALUES, max_size=4)


def text(value: object) -> Text:
    return Text(json.dumps(value, indent=2), path="x.json")


class TestReverting:
    @given(OBJECTS, OBJECTS)
    def test_what_nobody_edited_is_as_before(self, before: Any, after: Any) -> None:
        reverted, changed = revert_json(text(before), text(after), text(after))
        assert json.dumps(reverted.value, sort_keys=True) == json.dumps(before, sort_keys=True)
        assert changed == []

    @given(OBJECTS, OBJECTS, OBJECTS)
    def test_nothing_of_a_persons_is_lost(self, before: Any, after: Any, current: Any) -> None:
        reverted, _ = revert_json(text(before), text(after), text(current))
        result = reverted.value
        assert isinstance(result, dict)
        for key, value in current.items():
            if key not in after or (key in before and value == before[key] != after[key]):
                assert result[key] == value
        for key in before.keys() & after.keys():
            if json.dumps(before[key]) == json.dumps(after[key]) and key in current:
                assert result[key] == current[key]

    @given(OBJECTS, OBJECTS, st.dictionaries(st.sampled_from("pqr"), VALUES, max_size=3))
    def test_new_members_beside_stay(self, before: Any, after: Any, mine: Any) -> None:
        reverted, changed = revert_json(text(before), text(after), text({**after, **mine}))
        expected = {**before, **mine}
        assert json.dumps(reverted.value, sort_keys=True) == json.dumps(expected, sort_keys=True)
        assert changed == []

    def test_lines_are_taken_out_where_they_are_found(self) -> None:
        before, after = "a: 1\n", "a: 1\nb:\n  c: 2\n"
        assert revert_lines(before, after, f"# mine\n{after}d: 3\n") == (
            "# mine\na: 1\nd: 3\n",
            True,
        )
        assert revert_lines(before, after, "a: 1\nb:\n  c: 3\n") == ("a: 1\nb:\n  c: 3\n", False)


class TestUninstall:
    @pytest.fixture
    def wired(self, person: Person) -> Person:
        person.agent("one", "Read")
        entry = {"command": "npx", "args": ["p"], "env": {"A_TOKEN": "sesame"}}
        person.write(".mcp.json", {"mcpServers": {"srv": entry}, "other": 1})
        person.write(".claude/settings.json", {"model": "m"})
        assert person.run("init", "--yes").code == 0
        return person

    def edit(self, person: Person, path: str, change: Any) -> None:
        value = json.loads(person.read(path))
        change(value)
        person.write(path, value)

    def line(self, outcome: Outcome, path: str) -> str:
        (found,) = (
            line
            for line in outcome.out.splitlines()
            if f"{path} (" in line and not line.startswith(" ")
        )
        return found

    def test_members_beside_ours_stay(self, wired: Person) -> None:
        def change(value: Any) -> None:
            value["mcpServers"]["mine"] = {"command": "mine"}
            value["other"] = 2

        self.edit(wired, ".mcp.json", change)
        outcome = wired.run("uninstall", "--yes")
        assert outcome.code == 0
        assert outcome.out.count("mended: ") == 1
        assert json.loads(wired.read(".mcp.json")) == {
            "mcpServers": {
                "srv": {"command": "npx", "args": ["p"], "env": {"A_TOKEN": "sesame"}},
                "mine": {"command": "mine"},
            },
            "other": 2,
        }
        assert wired.installs() == []
        assert not wired.at("~/.config").exists()

    def test_an_entry_that_still_starts_the_gateway_is_given_back_whole(
        self, wired: Person
    ) -> None:
        def change(value: Any) -> None:
            value["mcpServers"]["srv"]["args"] = ["connect", "srv", "--agent", "one"]
            value["mcpServers"]["srv"]["timeout"] = 9

        self.edit(wired, ".mcp.json", change)
        assert wired.run("uninstall", "--yes").code == 0
        srv = json.loads(wired.read(".mcp.json"))["mcpServers"]["srv"]
        original = {"command": "npx", "args": ["p"], "env": {"A_TOKEN": "sesame"}}
        assert srv == {**original, "timeout": 9}

    def test_an_entry_that_starts_something_else_by_now_is_left(self, wired: Person) -> None:
        def change(value: Any) -> None:
            value["mcpServers"]["srv"] = {"command": "new"}

        self.edit(wired, ".mcp.json", change)
        outcome = wired.run("uninstall", "--yes")
        assert outcome.code == 1
        assert "mcpServers.srv" in outcome.out
        assert json.loads(wired.read(".mcp.json"))["mcpServers"]["srv"] == {"command": "new"}

    def test_an_entry_that_somebody_removed_stays_away(self, wired: Person) -> None:
        self.edit(wired, ".mcp.json", lambda value: value["mcpServers"].pop("srv"))
        assert wired.run("uninstall", "--yes").code == 0
        assert json.loads(wired.read(".mcp.json")) == {"mcpServers": {}, "other": 1}

    def test_the_hook_goes_and_other_hooks_stay(self, wired: Person) -> None:
        mine = {"type": "command", "command": "mine"}

        def change(value: Any) -> None:
            value["hooks"]["PreToolUse"][0]["hooks"].append(mine)
            value["hooks"]["PreToolUse"].insert(0, {"matcher": "Bash", "hooks": [mine]})
            value["hooks"]["Stop"] = []

        self.edit(wired, ".claude/settings.json", change)
        assert wired.run("uninstall", "--yes").code == 0
        assert json.loads(wired.read(".claude/settings.json")) == {
            "model": "m",
            "hooks": {
                "PreToolUse": [
                    {"matcher": "Bash", "hooks": [mine]},
                    {"matcher": "*", "hooks": [mine]},
                ],
                "Stop": [],
            },
        }

    def test_a_configuration_that_a_person_changed_is_kept_and_named(self, wired: Person) -> None:
        wired.write("gateway.yaml", wired.read("gateway.yaml") + "# mine\n")
        outcome = wired.run("uninstall", "--yes")
        assert outcome.code == 1
        assert "it was changed since" in self.line(outcome, "gateway.yaml")
        assert wired.read("gateway.yaml").endswith("# mine\n")
        assert "connect" not in wired.read(".mcp.json")

    def test_what_enforce_changed_is_not_a_persons_change(self, wired: Person) -> None:
        assert wired.run("enforce").code == 0
        assert wired.run("uninstall", "--yes").code == 0
        assert not wired.at("gateway.yaml").exists()
        assert wired.installs() == []

    def test_a_file_that_cannot_be_read_any_more_is_left_and_named(self, wired: Person) -> None:
        after = wired.read(".mcp.json")
        wired.write(".mcp.json", '{"mcpServers": {"srv": ')
        outcome = wired.run("uninstall", "--yes")
        assert outcome.code == 1
        assert "line 1 is not valid JSON at column 24" in self.line(outcome, ".mcp.json")
        assert wired.read(".mcp.json") == '{"mcpServers": {"srv": '
        assert wired.at("~/.config/mcp-tool-gateway/secrets").exists()
        wired.write(".mcp.json", after)
        assert wired.run("uninstall", "--yes").code == 0
        assert "sesame" in wired.read(".mcp.json")
        assert not wired.at("~/.config").exists()
        assert wired.installs() == []

    def test_agent_files_are_never_touched(self, wired: Person) -> None:
        wired.agent("two", "Write")
        agents = wired.read(".claude/agents/one.md"), wired.read(".claude/agents/two.md")
        assert wired.run("uninstall", "--yes").code == 0
        assert agents == (wired.read(".claude/agents/one.md"), wired.read(".claude/agents/two.md"))
