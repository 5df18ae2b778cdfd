"""Observe mode, accepted forms, held upstreams, native tools and callers without an agent file."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.callers import (
    BUILT_IN_TYPES,
    agent_of,
    decide_for_any,
    permissions_of_any,
    permissions_on,
)
from gateway.policy.compile import BUILT_IN, MAIN_THREAD, Rules, compile_snapshot
from gateway.policy.decide import decide
from gateway.policy.snapshot import Snapshot, Standing, UpstreamTraits
from gateway.policy.values import Action, Context, Decision
from tests.policy.servers import agent, catalog, defined, file_of, operator

SRV = {"srv": UpstreamTraits()}
OFFERED = Context(catalog("srv", ["echo", "other"]))
ENTRIES = st.lists(
    st.sampled_from(
        ["mcp__srv", "mcp__srv__echo", "mcp__srv__other", "mcp__srv__*", "Read", "mcp__else__x"]
    ),
    max_size=4,
)


def compiled(*rules: Any, traits: Any = None, **options: Any) -> Snapshot:
    return compile_snapshot(Rules(*rules), traits or SRV, "digest", **options)


def call(snapshot: Snapshot, tool: str = "echo", name: str | None = "a", **extra: Any) -> Decision:
    context = Context(catalog=OFFERED.catalog, **extra)
    return decide(name, Action("tool", "tools/call", "srv", tool), snapshot, context)


def native(snapshot: Snapshot, tool: str, name: str | None = "a", **extra: Any) -> Decision:
    return decide(name, Action("native", "PreToolUse", "", tool), snapshot, Context(**extra))


class TestObserving:
    def test_what_would_be_refused_goes_on_and_is_told_as_refused(self) -> None:
        decision = call(compiled([agent(["mcp__srv__echo"])], observe=True), "other")
        assert (decision.effect, decision.rule) == ("deny", "not declared")
        assert (decision.enforced, decision.allows, decision.refuses) == (False, True, False)
        assert decision.definition != ""

    def test_nothing_goes_on_before_the_catalog_is_known(self) -> None:
        snapshot = compiled([agent([])], observe=True)
        action = Action("tool", "tools/call", "srv", "echo")
        decision = decide("a", action, snapshot, Context())
        assert (decision.provisional, decision.allows) == (True, False)

    @pytest.mark.parametrize("name", ["a", "unknown", None])
    def test_a_caller_of_any_name_or_none_is_observed(self, name: str | None) -> None:
        assert call(compiled([agent([])], observe=True), name=name).allows

    @pytest.mark.parametrize("tool", ["gone", "ech\u043e", "e\x1b[0m", "echo "])
    def test_what_the_upstream_does_not_offer_or_may_not_is_refused_still(self, tool: str) -> None:
        snapshot = compiled([agent([])], observe=True)
        offered = catalog("srv", ["echo", "ech\u043e", "e\x1b[0m"])
        action = Action("tool", "tools/call", "srv", tool)
        assert decide("a", action, snapshot, Context(offered)).refuses

    @pytest.mark.parametrize("kind", ["unknown", "task"])
    def test_unknown_methods_and_tasks_of_others_are_refused_still(self, kind: Any) -> None:
        snapshot = compiled([agent(["mcp__srv"])], observe=True)
        assert decide("a", Action(kind, "x/y", "srv", "n"), snapshot, Context()).refuses

    def test_a_protected_file_is_refused_still(self) -> None:
        snapshot = compiled([agent(["Write"])], observe=True, native_tools="observe")
        decision = native(snapshot, "Write", protected="gateway.yaml")
        assert (decision.rule, decision.refuses) == ("protected file", True)

    def test_an_upstream_that_nobody_accepted_is_refused_still(self) -> None:
        held = {"srv": UpstreamTraits(held="nobody accepted it")}
        decision = call(compiled([agent(["mcp__srv"])], traits=held, observe=True))
        assert (decision.rule, decision.reason) == ("trust", "nobody accepted it")
        assert decision.refuses


class TestAccepted:
    def test_a_gained_tool_is_refused_and_a_lost_one_is_gone(self) -> None:
        now, then = agent(["mcp__srv__echo"]), agent(["mcp__srv__other"])
        snapshot = compiled([now], accepted=Rules([then]))
        gained = call(snapshot, "echo")
        assert (gained.effect, gained.rule) == ("deny", "trust")
        assert "gateway trust" in gained.reason
        assert gained.line == 5
        assert call(snapshot, "other").rule == "not declared"

    def test_an_agent_that_nobody_accepted_gets_nothing(self) -> None:
        assert call(compiled([agent(["mcp__srv"])], accepted=Rules())).rule == "trust"

    def test_taking_back_what_was_disallowed_is_a_widening(self) -> None:
        now, then = agent(["mcp__srv"]), agent(["mcp__srv"], ["mcp__srv__echo"])
        snapshot = compiled([now], accepted=Rules([then]))
        assert call(snapshot, "echo").rule == "trust"
        assert call(snapshot, "other").allows

    @given(now=ENTRIES, then=ENTRIES, refused_now=ENTRIES, refused_then=ENTRIES)
    def test_reach_is_what_both_forms_allow(
        self, now: list[str], then: list[str], refused_now: list[str], refused_then: list[str]
    ) -> None:
        current, earlier = agent(now, refused_now), agent(then, refused_then)
        both = compiled([current], accepted=Rules([earlier]), native_tools="enforce")
        one = compiled([current], native_tools="enforce")
        other = compiled([earlier], native_tools="enforce")
        for tool in ("echo", "other"):
            assert call(both, tool).allows == (call(one, tool).allows and call(other, tool).allows)
        for tool in ("Read", "mcp__else__x", "Bash"):
            assert native(both, tool).allows == (
                native(one, tool).allows and native(other, tool).allows
            )


class TestNativeTools:
    SNAPSHOT = compiled(
        [agent(["Read", "Bash(git:*)", "mcp__else__x", "mcp__whole"], ["Write"])],
        native_tools="enforce",
    )

    @pytest.mark.parametrize(
        ("tool", "effect", "rule"),
        [
            ("Read", "allow", "declared tools"),
            ("Bash", "allow", "declared tools"),
            ("mcp__else__x", "allow", "declared tools"),
            ("mcp__whole__any", "allow", "declared tools"),
            ("Write", "deny", "disallowed tools"),
            ("Edit", "deny", "not declared"),
            ("read", "deny", "not declared"),
            ("mcp__else__y", "deny", "not declared"),
            ("mcp__wholesale__any", "deny", "not declared"),
        ],
    )
    def test_they_are_decided_by_the_agents_list(self, tool: str, effect: str, rule: str) -> None:
        decision = native(self.SNAPSHOT, tool)
        assert (decision.effect, decision.rule, decision.tool_id) == (effect, rule, tool)
        assert decision.allows == (effect == "allow")

    def test_an_agent_that_inherits_has_all_but_what_it_disallows(self) -> None:
        definition = defined(file_of("disallowedTools: Bash"))
        snapshot = compiled([definition], operator("mcp__srv"), native_tools="enforce")
        assert native(snapshot, "Read").allows
        assert native(snapshot, "Bash").refuses

    @pytest.mark.parametrize("govern", ["off", "observe"])
    def test_nothing_is_refused_unless_they_are_enforced(self, govern: Any) -> None:
        decision = native(compiled([agent([])], native_tools=govern), "Bash")
        assert (decision.effect, decision.allows) == ("deny", True)

    def test_an_entry_of_an_upstream_behind_the_gateway_is_no_native_one(self) -> None:
        snapshot = compiled([agent(["mcp__srv__echo"])], native_tools="enforce")
        assert native(snapshot, "mcp__srv__echo").refuses


class TestCallersWithoutAFile:
    def test_the_main_thread_is_the_agent_that_is_named_for_it(self) -> None:
        snapshot = compiled([agent(["mcp__srv__echo"])], {}, Standing("g.yaml", 3, agent="a"))
        assert agent_of(None, snapshot) == ("a", "")

    def test_nobody_is_named_where_the_configuration_is_silent(self) -> None:
        snapshot = compiled([agent([])])
        for kind in (None, *BUILT_IN_TYPES):
            name, why = agent_of(kind, snapshot)
            assert name is None
            assert "gateway.yaml" in why

    def test_a_ceiling_is_all_that_they_get(self) -> None:
        ceiling = operator("mcp__srv__echo")["a"].max_tools
        standing = Standing("gateway.yaml", 3, max_tools=ceiling)
        snapshot = compiled((), {}, standing, None, native_tools="enforce")
        name, _ = agent_of(None, snapshot)
        assert name == MAIN_THREAD
        assert call(snapshot, "echo", name).allows
        assert call(snapshot, "other", name).rule == "ceiling"
        assert native(snapshot, "Bash", name).allows

    def test_observe_records_and_lets_pass(self) -> None:
        snapshot = compiled((), {}, None, Standing("gateway.yaml", 4, observe=True))
        name, _ = agent_of("Explore", snapshot)
        assert name == BUILT_IN
        decision = call(snapshot, "echo", name)
        assert (decision.effect, decision.allows, decision.line) == ("deny", True, 4)
        assert call(snapshot, "gone", name).refuses

    def test_a_file_takes_the_name_of_a_built_in_agent(self) -> None:
        definition = defined(file_of("tools: mcp__srv__echo").replace(b"name: a", b"name: Explore"))
        snapshot = compiled([definition], {}, None, Standing("gateway.yaml", 4, observe=True))
        assert agent_of("Explore", snapshot) == ("Explore", "")
        assert call(snapshot, "other", "Explore").refuses

    @pytest.mark.parametrize("name", [MAIN_THREAD, BUILT_IN])
    def test_nobody_can_call_itself_what_stands_for_others(self, name: str) -> None:
        standing = Standing("gateway.yaml", 4, observe=True)
        assert agent_of(name, compiled((), {}, standing, standing))[0] is None

    def test_an_agent_file_cannot_take_such_a_name(self) -> None:
        definition = defined(
            file_of("tools: mcp__srv").replace(b"name: a", b"name: '@main-thread'")
        )
        decision = call(compiled([definition]), "echo", MAIN_THREAD)
        assert decision.refuses


class TestSharedConnections:
    def test_a_listing_shows_what_any_agent_could_reach(self) -> None:
        second = defined(file_of("tools: mcp__srv__other").replace(b"name: a", b"name: b"))
        snapshot = compiled([agent(["mcp__srv__echo"]), second])
        shown = {
            tool
            for tool in ("echo", "other", "gone")
            if decide_for_any(Action("tool", "tools/list", "srv", tool), snapshot, OFFERED).allows
        }
        assert shown == {"echo", "other"}

    def test_nothing_is_shown_where_no_agent_has_anything(self) -> None:
        action = Action("tool", "tools/list", "srv", "echo")
        assert decide_for_any(action, compiled([agent(["Read"])]), OFFERED).refuses
        assert decide_for_any(action, compiled(()), OFFERED).refuses

    def test_its_permissions_are_the_most_of_any(self) -> None:
        second = defined(file_of("tools: mcp__srv").replace(b"name: a", b"name: b"))
        snapshot = compiled([agent(["Read"]), second])
        permissions = permissions_of_any("srv", snapshot)
        assert permissions.reachable
        assert permissions.resources is not None
        assert permissions.sampling is None
        assert not permissions_on("a", "srv", snapshot).reachable

    @given(first=ENTRIES, second=ENTRIES, tool=st.sampled_from(["echo", "other", "gone"]))
    def test_it_is_the_union_of_its_agents(
        self, first: list[str], second: list[str], tool: str
    ) -> None:
        renamed = msgspec.structs.replace(agent(second), name="b")
        snapshot = compiled([agent(first), renamed])
        action = Action("tool", "tools/list", "srv", tool)
        anyone = decide_for_any(action, snapshot, OFFERED).allows
        assert anyone == any(
            decide(name, action, snapshot, OFFERED).allows for name in snapshot.agents
        )
