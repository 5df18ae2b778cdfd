"""Trust: what of a configuration is in force, and how what was accepted is kept."""

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.config.accepted import acceptance_of, accepted_file
from gateway.config.held import held_back
from gateway.config.load import Loaded, load
from gateway.config.settings import Settings, StdioEntry
from gateway.config.trust import accept, read_accepted, review
from gateway.errors import UserError
from gateway.policy.callers import agent_of
from gateway.policy.decide import decide
from gateway.policy.values import Action, Context, Decision
from tests.policy.servers import agent, compiled, operator, reach

from .conftest import Project

SECRET = "sk-hunter2-planted-secret"


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def in_force(project: Project) -> Loaded:
    return load(None, cwd=project.root, trusted=False)


def accept_now(project: Project) -> Loaded:
    accept(None, cwd=project.root)
    return in_force(project)


def call(loaded: Loaded, tool: str, *, agent: str = "backend", upstream: str = "web") -> Decision:
    return decide(agent, Action("tool", "tools/call", upstream, tool), loaded.snapshot, Context())


@pytest.fixture
def accepted(project: Project) -> Project:
    """A project that was accepted: `backend` may fetch from `web`."""
    project.config("upstreams: {web: {command: web}, db: {command: db}}\n")
    project.agent("backend", "mcp__web__fetch")
    assert call(accept_now(project), "fetch").effect == "allow"
    return project


class TestNothingAccepted:
    def test_every_upstream_is_held_and_no_agent_may_use_anything(self, project: Project) -> None:
        project.config("default_agent: backend\nupstreams: {web: {command: web}}\nmode: observe\n")
        project.agent("backend", "mcp__web__fetch, Read")
        loaded = in_force(project)
        assert not loaded.accepted
        assert loaded.snapshot.upstreams["web"].held == (
            "the upstream 'web' of this project is not started until a person accepts its entry "
            "(gateway.yaml:2) with `gateway trust`"
        )
        refused = call(loaded, "fetch")
        assert (refused.rule, refused.refuses) == ("trust", True)
        native = decide(
            "backend", Action("native", "PreToolUse", "", "Read"), loaded.snapshot, Context()
        )
        assert (native.effect, native.rule) == ("deny", "trust")
        assert (loaded.settings.default_agent, loaded.settings.mode) == (None, "enforce")
        [finding] = loaded.held
        assert (finding.code, finding.path, finding.line) == ("not-accepted", "gateway.yaml", 1)

    def test_entries_of_an_included_client_configuration_are_held_alike(
        self, project: Project
    ) -> None:
        project.write(".mcp.json", '{"mcpServers": {"db": {"command": "db"}}}')
        project.agent("backend", "mcp__db")
        assert "(.mcp.json:1)" in in_force(project).snapshot.upstreams["db"].held
        assert not accept_now(project).snapshot.upstreams["db"].held

    def test_trusted_takes_the_files_as_they_are(self, project: Project) -> None:
        project.config("upstreams: {web: {command: web}}\n")
        project.agent("backend", "mcp__web__fetch")
        loaded = project.load()
        assert loaded.accepted
        assert loaded.held == ()
        assert call(loaded, "fetch").effect == "allow"

    def test_another_place_is_another_acceptance(self, accepted: Project) -> None:
        accepted.write("inner/gateway.yaml", "upstreams: {web: {command: web}}\n")
        loaded = load(None, cwd=accepted.root / "inner", trusted=False)
        assert not loaded.accepted


class TestObservingOneAgent:
    """`mode: observe` of an agent lets everything pass, so a person must accept it."""

    OBSERVED = (
        "upstreams: {web: {command: web}, db: {command: db}}\nagents: {backend: {mode: observe}}\n"
    )

    def test_it_holds_for_that_agent_alone(self, project: Project) -> None:
        project.config(self.OBSERVED)
        project.agent("backend", "mcp__web__fetch")
        project.agent("other", "mcp__web__fetch")
        loaded = accept_now(project)
        observed = call(loaded, "drop", upstream="db")
        assert (observed.effect, observed.enforced) == ("deny", False)
        assert call(loaded, "drop", upstream="db", agent="other").enforced
        assert loaded.held == ()

    def test_it_holds_when_a_person_has_accepted_it(self, accepted: Project) -> None:
        accepted.config(self.OBSERVED)
        loaded = in_force(accepted)
        assert call(loaded, "drop", upstream="db").enforced
        [finding] = loaded.held
        assert "'backend' may not use everything, observed only until" in finding.message
        assert not call(accept_now(accepted), "drop", upstream="db").enforced

    def test_its_end_holds_at_once(self, accepted: Project) -> None:
        accepted.config(self.OBSERVED)
        accept_now(accepted)
        accepted.config(self.OBSERVED.replace("observe", "enforce"))
        assert call(in_force(accepted), "drop", upstream="db").enforced

    def test_a_stranger_to_the_accepted_files_is_not_observed(self, accepted: Project) -> None:
        accepted.agent("new", "mcp__web__fetch")
        accepted.config(self.OBSERVED.replace("backend", "new"))
        assert call(in_force(accepted), "drop", upstream="db", agent="new").enforced


class TestAnAcceptedConfiguration:
    def test_is_in_force_as_it_is(self, accepted: Project) -> None:
        loaded = in_force(accepted)
        assert loaded.held == ()
        assert loaded.snapshot == accepted.load().snapshot
        assert loaded.settings == accepted.load().settings
        assert loaded.digest == accepted.load().digest

    def test_a_tool_that_is_added_is_refused_until_it_is_accepted(self, accepted: Project) -> None:
        accepted.agent("backend", "mcp__web__fetch, mcp__web__post")
        loaded = in_force(accepted)
        refused = call(loaded, "post")
        assert (refused.rule, refused.refuses) == ("trust", True)
        assert "gateway trust" in refused.reason
        assert call(loaded, "fetch").effect == "allow"
        [finding] = loaded.held
        assert "'backend' may not use mcp__web__post until" in finding.message
        assert (finding.path, finding.line) == (".claude/agents/backend.md", 4)
        assert call(accept_now(accepted), "post").effect == "allow"

    def test_a_tool_that_is_removed_is_gone_at_once(self, accepted: Project) -> None:
        accepted.agent("backend", "mcp__web__other")
        assert call(in_force(accepted), "fetch").rule == "not declared"

    def test_a_narrowing_is_no_finding(self, accepted: Project) -> None:
        accepted.agent("backend", "Read")
        assert accept_now(accepted).held == ()
        accepted.agent("backend", "[]")
        assert in_force(accepted).held == ()

    def test_a_disallowed_entry_that_is_removed_is_a_widening(self, accepted: Project) -> None:
        header = "---\nname: backend\ndescription: d\ntools: mcp__web\n{}---\n"
        path = ".claude/agents/backend.md"
        accepted.write(path, header.format("disallowedTools: mcp__web__post\n"))
        assert call(accept_now(accepted), "post").rule == "disallowed tools"
        accepted.write(path, header.format(""))
        assert call(in_force(accepted), "post").rule == "trust"

    def test_a_ceiling_that_is_lifted_is_a_widening(self, accepted: Project) -> None:
        upstreams = "upstreams: {web: {command: web}, db: {command: db}}\n"
        accepted.config(upstreams + "agents: {backend: {max_tools: [mcp__db]}}\n")
        assert call(accept_now(accepted), "fetch").rule == "ceiling"
        accepted.config(upstreams)
        assert call(in_force(accepted), "fetch").rule == "trust"

    def test_a_new_agent_is_refused_until_it_is_accepted(self, accepted: Project) -> None:
        accepted.agent("second", "mcp__web__fetch")
        assert call(in_force(accepted), "fetch", agent="second").rule == "trust"

    def test_a_file_that_only_looks_different_changes_nothing(self, accepted: Project) -> None:
        accepted.config("# A word.\nupstreams: {db: {command: db}, web: {command: web}}\n")
        accepted.write(
            ".claude/agents/elsewhere.md",
            "---\ndescription: Other words.\nname: backend\ntools: [mcp__web__fetch]\n---\nWork.",
        )
        (accepted.root / ".claude/agents/backend.md").unlink()
        loaded = in_force(accepted)
        assert loaded.held == ()
        assert call(loaded, "fetch").effect == "allow"

    @pytest.mark.parametrize(
        "entry",
        [
            "{command: other}",
            "{command: web, args: [-x]}",
            "{command: web, env: {A: b}}",
            "{command: web, inherit_env: [SECRET]}",
            "{command: web, cwd: sub}",
            "{command: web, passthrough_unknown: true}",
            "{type: http, url: 'http://127.0.0.1/mcp'}",
        ],
    )
    def test_an_entry_that_differs_in_anything_is_held(self, accepted: Project, entry: str) -> None:
        accepted.config(f"upstreams:\n  db: {{command: db}}\n  web: {entry}\n")
        loaded = in_force(accepted)
        assert call(loaded, "fetch").rule == "trust"
        assert not loaded.snapshot.upstreams["db"].held
        [finding] = loaded.held
        assert (finding.path, finding.line) == ("gateway.yaml", 3)

    def test_an_upstream_that_is_gone_lends_its_names_to_no_other(self, project: Project) -> None:
        project.config("upstreams: {a: {command: a}, a__c: {command: c}}\n")
        project.agent("backend", "mcp__a__c__x")  # could be of either, so grants nothing
        accept_now(project)
        project.config("upstreams: {a__c: {command: c}}\n")
        assert call(project.load(), "x", upstream="a__c").effect == "allow"
        assert call(in_force(project), "x", upstream="a__c").rule == "trust"

    def test_the_digest_covers_what_was_accepted(self, accepted: Project) -> None:
        first = in_force(accepted).digest
        accepted.agent("backend", "mcp__web__fetch, mcp__web__post")
        held = in_force(accepted).digest
        assert held != accepted.load().digest
        assert held == in_force(accepted).snapshot.digest
        accepted.agent("backend", "mcp__web__post")
        accept_now(accepted)
        accepted.agent("backend", "mcp__web__fetch, mcp__web__post")
        assert len({first, held, in_force(accepted).digest}) == 3


class TestSettings:
    BASE = "upstreams: {web: {command: web}}\n"

    def test_accepted_values_hold_until_others_are_accepted(self, accepted: Project) -> None:
        accepted.agent("second", "mcp__web__fetch")
        accepted.config(self.BASE + "default_agent: backend\naudit: {arguments: full}\n")
        accept_now(accepted)
        accepted.config(
            self.BASE + "default_agent: second\naudit: {arguments: none}\n"
            "http: {anonymous: loopback, host: 0.0.0.0}\nlimits: {max_tools: 1}\n"
        )
        loaded = in_force(accepted)
        assert loaded.settings.default_agent == "backend"
        assert loaded.settings.audit.arguments == "full"
        assert loaded.settings.http.anonymous is None
        assert loaded.settings.limits.max_tools == 50_000
        told = {(finding.message.split()[0], finding.line) for finding in loaded.held}
        assert told == {("default_agent", 2), ("audit", 3), ("http", 4), ("limits", 5)}
        assert accept_now(accepted).settings == accepted.load().settings

    @pytest.mark.parametrize(
        ("before", "now", "by", "timeout_s", "remember"),
        [
            ("{}", "{by: [client, command]}", ("command",), 300, True),
            ("{by: [client, command]}", "{by: [client]}", ("client",), 300, True),
            ("{timeout_s: 60}", "{timeout_s: 600}", ("command", "console"), 60, True),
            ("{timeout_s: 60}", "{timeout_s: 6}", ("command", "console"), 6, True),
            ("{remember: [call]}", "{}", ("command", "console"), 300, False),
            ("{}", "{remember: [call]}", ("command", "console"), 300, False),
            ("{by: []}", "{}", (), 300, True),
        ],
    )
    def test_of_two_terms_of_approvals_the_stricter_hold(
        self,
        accepted: Project,
        before: str,
        now: str,
        by: tuple[str, ...],
        timeout_s: float,
        remember: bool,
    ) -> None:
        accepted.config(f"{self.BASE}approvals: {before}\n")
        accept_now(accepted)
        accepted.config(f"{self.BASE}approvals: {now}\n")
        loaded = in_force(accepted)
        terms = loaded.snapshot.approvals
        assert (terms.by, terms.timeout_s) == (by, timeout_s)
        assert ("session" in terms.remember) == remember
        wider = loaded.settings.approvals != accepted.load().settings.approvals
        assert [each.message.split()[0] for each in loaded.held] == ["approvals"] * wider
        assert accept_now(accepted).settings.approvals == accepted.load().settings.approvals

    def test_a_default_agent_that_is_gone_is_gone_at_once(self, accepted: Project) -> None:
        accepted.config(self.BASE + "default_agent: backend\n")
        accept_now(accepted)
        accepted.config(self.BASE)
        assert in_force(accepted).settings.default_agent is None

    @pytest.mark.parametrize(
        ("before", "now", "mode", "native"),
        [
            ("mode: enforce", "mode: observe", "enforce", "off"),
            ("mode: observe", "mode: enforce", "enforce", "off"),
            ("mode: observe", "mode: observe", "observe", "off"),
            ("native_tools: enforce", "native_tools: off", "enforce", "enforce"),
            ("native_tools: observe", "native_tools: enforce", "enforce", "enforce"),
        ],
    )
    def test_of_two_modes_the_stricter_holds(
        self, accepted: Project, before: str, now: str, mode: str, native: str
    ) -> None:
        accepted.config(self.BASE + before.replace("off", "'off'") + "\n")
        accept_now(accepted)
        accepted.config(self.BASE + now.replace("off", "'off'") + "\n")
        snapshot = in_force(accepted).snapshot
        assert ("observe" if snapshot.observe else "enforce", snapshot.native_tools) == (
            mode,
            native,
        )

    @pytest.mark.parametrize(
        ("before", "now", "reached"),
        [
            ("backend", "second", {"fetch"}),
            ("backend", "observe", {"fetch"}),
            ("backend", "[mcp__web]", {"fetch"}),
            ("[mcp__web__fetch]", "backend", {"fetch"}),
            ("[mcp__web__fetch]", "observe", {"fetch"}),
            ("[mcp__web__fetch, mcp__web__b]", "[mcp__web__b, mcp__web__post]", {"b"}),
            ("observe", "second", {"post"}),
            ("observe", "[mcp__web__post]", {"post"}),
            ("observe", "observe", {"fetch", "post", "b"}),
            ("", "[mcp__web__post]", set()),
            ("", "second", set()),
            ("", "observe", set()),
            ("backend", "", set()),
        ],
    )
    def test_whoever_stands_for_callers_without_a_file_is_never_wider_than_accepted(
        self, accepted: Project, before: str, now: str, reached: set[str]
    ) -> None:
        accepted.agent("second", "mcp__web__post")
        for text, step in ((before, accept_now), (now, in_force)):
            lines = f"main_thread: {text}\nbuiltin_agents: {text}\n" if text else ""
            accepted.config(self.BASE + lines)
            loaded = step(accepted)
        for agent_type in (None, "Explore"):
            name, _ = agent_of(agent_type, loaded.snapshot)
            allowed = {
                tool
                for tool in ("fetch", "post", "b")
                if not decide(
                    name, Action("tool", "tools/call", "web", tool), loaded.snapshot, Context()
                ).refuses
            }
            assert allowed == reached


_NAMES = ("a", "a__c", "srv", "srv_two", "q.x", "q_x")
_TOOLS = ("x", "c__x", "y")
_ENTRIES = (
    *(f"mcp__{server}__{tool}" for server in ("a", "a__c", "srv", "q_x") for tool in _TOOLS),
    *("mcp__a", "mcp__a__*", "mcp__srv", "mcp__srv_two", "mcp__a__c", "Read", "Bash(git:*)"),
)
_entries = st.lists(st.sampled_from(_ENTRIES), unique=True, max_size=6)
_sides = st.tuples(
    st.lists(st.sampled_from(_NAMES), unique=True, min_size=1),
    _entries,
    _entries,
    st.none() | _entries.map(lambda entries: [one for one in entries if one.startswith("mcp__")]),
)
Side = tuple[list[str], list[str], list[str], list[str] | None]


def _settings(side: Side) -> Settings:
    servers, _, _, ceiling = side
    return Settings(
        root="/",
        path="gateway.yaml",
        digest=repr(side),
        upstreams={
            name: StdioEntry(name=name, path="gateway.yaml", line=1, command=name)
            for name in servers
        },
        agents={} if ceiling is None else operator(*_spelled(ceiling)),
    )


def _spelled(entries: list[str]) -> list[str]:
    return [entry.removesuffix("__*") for entry in entries]


def _reach(side: Side, servers: Mapping[str, tuple[str, ...]]) -> set[str]:
    own, tools, disallowed, ceiling = side
    operators = None if ceiling is None else operator(*_spelled(ceiling))
    return reach(compiled(agent(tools, disallowed), own, operators), servers)


@settings(max_examples=300, deadline=None)
@example(
    (["a", "a__c", "q.x"], ["mcp__q_x__x"], [], None),
    (["a", "a__c", "srv", "srv_two", "q.x", "q_x"], [], ["mcp__q_x__x"], None),
)
@example((["a"], ["mcp__a__c__x"], [], None), (["a", "a__c"], [], ["mcp__a__c__x"], None))
@given(_sides, _sides)
def test_in_force_is_exactly_what_is_both_said_and_accepted(now: Side, before: Side) -> None:
    servers = dict.fromkeys(_NAMES, _TOOLS)
    accepted = acceptance_of(_settings(before), (agent(before[1], before[2]),))
    held = held_back(_settings(now), (agent(now[1], now[2]),), accepted)
    effective = reach(held.snapshot, servers)
    assert effective == _reach(now, servers) & _reach(before, servers)
    # And whatever is held, or would be, is told.
    gained = _reach(now, servers) - effective
    assert held.findings or not gained


class TestKeeping:
    def test_it_is_the_owners_alone_and_holds_no_secret(self, project: Project) -> None:
        project.config(
            f"upstreams: {{web: {{command: web, args: [{SECRET}], env: {{API_KEY: {SECRET}}}}}}}\n"
        )
        project.agent("backend", "mcp__web__fetch")
        loaded = accept_now(project)
        path = accepted_file(loaded.place)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert SECRET.encode() not in path.read_bytes()
        assert not path.is_relative_to(project.root)

    @pytest.mark.parametrize("what", ["file", "directory", "state"])
    def test_what_others_can_write_is_refused(self, accepted: Project, what: str) -> None:
        path = accepted_file(in_force(accepted).place)
        target = {"file": path, "directory": path.parent, "state": path.parent.parent}[what]
        target.chmod(target.stat().st_mode | 0o022)
        with pytest.raises(UserError, match=r"open to other users.*chmod"):
            in_force(accepted)

    def test_a_link_is_refused(self, accepted: Project, tmp_path: Path) -> None:
        path = accepted_file(in_force(accepted).place)
        path.rename(tmp_path / "moved")
        path.symlink_to(tmp_path / "moved")
        with pytest.raises(UserError, match="not what the gateway keeps there"):
            in_force(accepted)

    @pytest.mark.parametrize("damage", [b"", b"\x80", bytes(range(255, 191, -1))])
    def test_what_cannot_be_read_accepts_nothing(self, accepted: Project, damage: bytes) -> None:
        path = accepted_file(in_force(accepted).place)
        path.write_bytes(damage)
        assert not in_force(accepted).accepted
        assert call(accept_now(accepted), "fetch").effect == "allow"

    def test_what_another_place_accepted_accepts_nothing_here(self, accepted: Project) -> None:
        place = in_force(accepted).place
        kept = read_accepted(place)
        assert kept is not None
        other = msgspec.structs.replace(kept.settings, root="/elsewhere")
        moved = msgspec.structs.replace(kept, settings=other)
        accepted_file(place).write_bytes(msgspec.msgpack.encode(moved))
        assert read_accepted(place) is None

    def test_a_later_program_with_more_fields_still_knows_an_entry(self) -> None:
        entry = StdioEntry(name="web", path="a", line=1, command="web")
        accepted = acceptance_of(
            Settings(root="/", path="", digest="", upstreams={"web": entry}), ()
        )
        later: Any = msgspec.defstruct(
            "Later",
            [("more", int, 0)],
            bases=(StdioEntry,),
            frozen=True,
            kw_only=True,
            tag="stdio",
        )
        assert accepted.covers(later(name="web", path="b", line=2, command="web"))
        assert not accepted.covers(later(name="web", path="b", line=2, command="web", more=1))


class TestReview:
    def test_says_what_is_new_changed_gone_gained_and_lost(self, accepted: Project) -> None:
        accepted.config("upstreams: {web: {command: other}, new: {command: new}}\nmode: observe\n")
        accepted.agent("backend", "mcp__web__post, mcp__new, Read")
        loaded = accepted.load()
        found = review(loaded, read_accepted(loaded.place))
        assert [entry.name for entry in found.new] == ["new"]
        assert [entry.name for entry in found.changed] == ["web"]
        assert found.removed == ("db",)
        [change] = found.agents
        assert set(change.gained) == {
            "mcp__web__post",
            "mcp__new__*",
            "the resources of new",
            "the prompts of new",
            "Read",
        }
        assert change.lost == ("mcp__web__fetch",)
        assert found.values == ("mode",)

    def test_nothing_is_left_once_it_is_accepted(self, accepted: Project) -> None:
        loaded = accepted.load()
        assert review(loaded, read_accepted(loaded.place)).empty
        assert not review(loaded, None).empty


def test_callers_without_a_token_are_kept_out_as_soon_as_the_file_says_so(project: Project) -> None:
    project.config("http: {anonymous: loopback, port: 9000}\n")
    assert accept_now(project).settings.http.anonymous == "loopback"
    project.config("http: {port: 9001}\n")
    loaded = in_force(project)
    assert (loaded.settings.http.anonymous, loaded.settings.http.port) == (None, 9000)
    project.config("http: {port: 9000}\n")
    assert in_force(project).settings.http.anonymous is None
