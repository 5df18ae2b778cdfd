"""The lock: what is written is read again, and anything else is refused with its line."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.catalog.listing import build_catalog
from gateway.catalog.pins import same_pins
from gateway.config.load import Loaded, load
from gateway.config.lock import (
    Lock,
    LockedUpstream,
    encode_lock,
    lock_of,
    locked,
    read_lock,
    write_lock,
)
from gateway.config.trust import accept, read_accepted, review
from gateway.config.watch import state_of
from gateway.errors import UserError
from gateway.policy.decide import decide
from gateway.policy.values import Action, Context, Decision

from .conftest import Project

ECHO: dict[str, Any] = {"name": "echo", "description": "d\u202e", "inputSchema": {"a": [1, 1.5]}}
CHANGED: dict[str, Any] = {**ECHO, "inputSchema": {}}
NEW: dict[str, Any] = {"name": "new", "inputSchema": {}}


def lock(*definitions: dict[str, Any], instructions: str | None = "hi") -> Lock:
    entries = build_catalog("web", definitions).tools.values()
    tools = {each.tool_id: locked(each) for each in entries}
    return Lock({"web": LockedUpstream(tools, instructions)})


def text(*definitions: dict[str, Any]) -> str:
    return encode_lock(lock(*definitions), path="gateway.lock").decode()


class TestFile:
    def test_it_is_ascii_with_sorted_keys_and_a_line_for_each_value(self) -> None:
        written = text(ECHO)
        assert written.isascii()
        assert written == json.dumps(json.loads(written), indent=2, sort_keys=True) + "\n"
        assert '"description": "d\\u202e"' in written

    def test_a_change_of_one_value_changes_its_lines_and_the_digest(self) -> None:
        before, after = (
            text(ECHO, NEW).split("\n"),
            text({**ECHO, "description": "T"}, NEW).split("\n"),
        )
        assert len(set(after) - set(before)) == 2
        assert len(set(before) - set(after)) == 2

    def test_what_was_written_is_read_again(self) -> None:
        again = read_lock(text(ECHO, NEW), path="gateway.lock")
        before = lock(ECHO, NEW).upstreams["web"]
        after = again.upstreams["web"]
        assert after.instructions == "hi"
        for tool, each in before.tools.items():
            assert after.tools[tool].definition == each.definition
            assert after.tools[tool].pin.definition == each.pin.definition
            assert after.tools[tool].pin.text == each.pin.text
            line = after.tools[tool].pin.line
            assert text(ECHO, NEW).split("\n")[line - 1].strip() == f'"{tool}": {{'

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=10,
        )
    )
    def test_any_definition_is_read_again_with_its_digests_or_refused(self, value: Any) -> None:
        with contextlib.suppress(UserError):
            written = encode_lock(lock({**NEW, "x": value}), path="gateway.lock")
            assert read_lock(written.decode(), path="").upstreams["web"].tools

    @pytest.mark.parametrize(
        ("before", "after", "what"),
        [
            ('"version": 1', '"version": 2', "version is not 1"),
            ('"version": 1', '"version": true', "version is not 1"),
            ('"version": 1', '"version": 1, "x": 1', "'x' is no known key"),
            ('"upstreams": {', '"upstreams": 1, "comment2": {', "no known key"),
            ('"description": "d', '"description": "e', "are not those of its definition"),
            ("1.5", "1.6", "are not those of its definition"),
            ('"name": "echo"', '"name": "echa"', "not that of mcp__web__echo"),
            ('"mcp__web__echo": {', '"mcp__db__echo": {', "not that of mcp__db__echo"),
            ('"instructions": "hi"', '"instructions": 1', "instructions is no text"),
            ('"tools": {', '"tools": {"mcp__web__x": 1, ', "mcp__web__x is no mapping"),
        ],
    )
    def test_a_changed_lock_is_refused_with_the_line(
        self, before: str, after: str, what: str
    ) -> None:
        written = text(ECHO)
        assert written.count(before) == 1
        with pytest.raises(UserError) as error:
            read_lock(written.replace(before, after), path="gateway.lock")
        assert what in str(error.value)
        assert error.value.line is not None
        assert "run `gateway pin`" in str(error.value)

    @pytest.mark.parametrize(
        "broken", ["", "[]", "{", "null", "<<<<<<< ours\n{}", '{"version": 1, "version": 1}']
    )
    def test_what_is_no_lock_at_all_is_refused(self, broken: str) -> None:
        with pytest.raises(UserError) as error:
            read_lock(broken, path="gateway.lock")
        assert (error.value.path, error.value.line) == ("gateway.lock", 1)

    def test_what_cannot_be_read_again_is_not_written(self) -> None:
        deep: Any = 1
        for _ in range(60):
            deep = [deep]
        with pytest.raises(UserError, match="cannot be pinned"):
            encode_lock(lock({**NEW, "x": deep}), path="gateway.lock")


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def pinned(project: Project) -> Project:
    project.config("upstreams: {web: {command: web}}\n")
    project.agent("backend", "mcp__web")
    pin(project, ECHO)
    return project


def pin(project: Project, *definitions: dict[str, Any]) -> None:
    project.write("gateway.lock", "")
    (project.root / "gateway.lock").write_text(text(*definitions))


def call(loaded: Loaded, definition: dict[str, Any]) -> Decision:
    action = Action("tool", "tools/call", "web", definition["name"])
    context = Context(build_catalog("web", [definition]))
    return decide("backend", action, loaded.snapshot, context)


class TestConfiguration:
    def test_without_a_lock_nothing_is_pinned(self, project: Project) -> None:
        project.config("upstreams: {web: {command: web}}\n")
        assert project.load().snapshot.pins is None
        assert not project.load().snapshot.pinned

    def test_the_lock_is_part_of_the_configuration(self, pinned: Project) -> None:
        before = pinned.load()
        assert call(before, ECHO).effect == "allow"
        refused = call(before, CHANGED)
        assert (refused.effect, refused.rule, refused.file) == ("deny", "pin", "gateway.lock")
        assert refused.definition == build_catalog("web", [CHANGED]).tools["echo"].digest
        assert pinned.load().cached
        state = state_of(None, pinned.root, before.sources, {})
        pin(pinned, CHANGED)
        assert state_of(None, pinned.root, before.sources, {}) != state
        after = pinned.load()
        assert not after.cached
        assert after.digest != before.digest
        assert call(after, CHANGED).effect == "allow"
        assert call(after, ECHO).rule == "pin"
        again = pinned.load()
        assert again.cached
        assert again.snapshot == after.snapshot

    def test_a_broken_lock_refuses_the_configuration(self, pinned: Project) -> None:
        path = pinned.root / "gateway.lock"
        path.write_text(path.read_text().replace("1.5", "1.6"))
        with pytest.raises(UserError) as error:
            pinned.load()
        assert "gateway.lock:" in str(error.value)
        path.unlink()
        path.symlink_to("nowhere")
        with pytest.raises(UserError, match="Cannot be read"):
            pinned.load()

    def test_another_configuration_has_another_lock(self, pinned: Project) -> None:
        path = pinned.write("other.yaml", "upstreams: {web: {command: web}}\n")
        assert pinned.load(path).snapshot.pins is None
        pinned.write("other.yaml.lock", text(ECHO))
        assert pinned.load(path).snapshot.pins is not None

    def test_wildcards_that_are_pinned_withhold_without_a_lock_too(self, pinned: Project) -> None:
        (pinned.root / "gateway.lock").unlink()
        pinned.config("upstreams: {web: {command: web}}\npins: {wildcards: pinned}\n")
        refused = call(pinned.load(), ECHO)
        assert (refused.rule, refused.file) == ("pin", ".claude/agents/backend.md")
        pinned.agent("backend", "mcp__web__echo")
        assert call(pinned.load(), ECHO).effect == "allow"

    def test_mistakes_in_the_section_are_told(self, pinned: Project) -> None:
        pinned.config("upstreams: {web: {command: web}}\npins: {text: warn, wildcard: open}\n")
        with pytest.raises(UserError) as error:
            pinned.load()
        assert "pins.text must be 'report' or 'withhold'" in str(error.value)
        assert "did you mean 'wildcards'" in str(error.value)


class TestObserve:
    def test_a_changed_definition_is_withheld_in_observe_mode_too(self, pinned: Project) -> None:
        pinned.config("upstreams: {web: {command: web}}\nmode: observe\n")
        refused = call(pinned.load(), CHANGED)
        assert (refused.rule, refused.refuses) == ("pin", True)


class TestTrust:
    def in_force(self, project: Project) -> Loaded:
        return load(None, cwd=project.root, trusted=False)

    def test_a_lock_that_narrows_is_in_force_at_once(self, pinned: Project) -> None:
        (pinned.root / "gateway.lock").unlink()
        accept(None, cwd=pinned.root)
        pin(pinned, ECHO)
        loaded = self.in_force(pinned)
        assert (call(loaded, ECHO).effect, call(loaded, CHANGED).rule) == ("allow", "pin")
        assert loaded.held == ()

    @pytest.mark.parametrize("now", [(CHANGED,), (), None])
    def test_one_that_releases_is_held_until_it_is_accepted(
        self, pinned: Project, now: tuple[dict[str, Any], ...] | None
    ) -> None:
        accept(None, cwd=pinned.root)
        assert self.in_force(pinned).snapshot.accepted_pins is None
        if now is None:
            (pinned.root / "gateway.lock").unlink()
        else:
            pin(pinned, *now)
        loaded = self.in_force(pinned)
        refused = call(loaded, CHANGED)
        assert (refused.rule, refused.refuses) == ("trust", True)
        assert "`gateway trust`" in refused.reason
        [finding] = loaded.held
        assert (finding.code, finding.path) == ("not-accepted", "gateway.lock")
        found = review(pinned.load(), read_accepted(loaded.place))
        assert not found.empty
        assert "mcp__web__echo" in {change.tool for change in found.pins}
        accept(None, cwd=pinned.root)
        assert call(self.in_force(pinned), CHANGED).effect == "allow"
        assert self.in_force(pinned).held == ()

    @pytest.mark.parametrize("section", ["{text: withhold}", "{wildcards: pinned}"])
    def test_a_setting_that_is_loosened_holds_until_it_is_accepted(
        self, pinned: Project, section: str
    ) -> None:
        upstreams = "upstreams: {web: {command: web}}\n"
        pinned.config(f"{upstreams}pins: {section}\n")
        accept(None, cwd=pinned.root)
        told = {**ECHO, "description": "other"} if "text" in section else NEW
        assert call(self.in_force(pinned), told).rule == "pin"
        pinned.config(upstreams)
        loaded = self.in_force(pinned)
        assert call(loaded, told).rule == "trust"
        assert review(pinned.load(), read_accepted(loaded.place)).values == ("pins",)
        accept(None, cwd=pinned.root)
        assert call(self.in_force(pinned), told).effect == "allow"

    def test_naming_a_tool_is_no_way_around_its_pin(self, pinned: Project) -> None:
        pinned.config("upstreams: {web: {command: web}}\npins: {wildcards: pinned}\n")
        accept(None, cwd=pinned.root)
        assert call(self.in_force(pinned), NEW).rule == "pin"
        pinned.agent("backend", "mcp__web__new, mcp__web__echo")
        assert call(self.in_force(pinned), NEW).rule == "pin"
        assert call(self.in_force(pinned), ECHO).effect == "allow"


def test_the_lock_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "gateway.lock"
    write_lock(path, b"one")
    write_lock(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(UserError, match="Cannot be written"):
        write_lock(tmp_path / "nowhere" / "gateway.lock", b"")


def test_no_lock_is_none(project: Project) -> None:
    project.config("upstreams: {web: {command: web}}\n")
    place = project.load().place
    assert lock_of(place) is None
    pin(project, ECHO)
    found = lock_of(place)
    assert found is not None
    assert same_pins(project.load().settings.pins, project.load().settings.pins)
    assert set(found.upstreams["web"].tools) == {"mcp__web__echo"}
