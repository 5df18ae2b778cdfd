"""What callers that share a connection may do together, and what upstreams are told of them."""

from typing import Any

import msgspec
import pytest

from gateway.catalog.listing import build_catalog
from gateway.policy.callers import decide_for_any, permissions_of_any, permissions_on
from gateway.policy.compile import Rules, compile_snapshot
from gateway.policy.rules import Rule
from gateway.policy.snapshot import Grants, Snapshot, UpstreamPermissions, UpstreamTraits
from gateway.policy.values import Action, Context, Decision
from tests.policy.ruling import rule
from tests.policy.servers import agent, operator

OFFERED = build_catalog("srv", [{"name": "echo", "inputSchema": {}}])
ECHO = ("mcp__srv__echo",)
NOTHING = UpstreamPermissions()
ALL = Grants(resources=("srv",), prompts=("srv",), sampling=("srv",))


def snapshot(*rules: Rule, observe: bool = False, **agents: tuple[str, ...]) -> Snapshot:
    """Agents by name with their tools, in this order."""
    made = [
        msgspec.structs.replace(agent(list(tools)), name=name) for name, tools in agents.items()
    ]
    return compile_snapshot(
        Rules(made, policies=rules), {"srv": UpstreamTraits()}, "digest", observe=observe
    )


def listed(made: Snapshot, upstream: str = "srv") -> Decision:
    catalog = OFFERED if upstream == "srv" else build_catalog(upstream, [{"name": "echo"}])
    return decide_for_any(Action("tool", "tools/list", upstream, "echo"), made, Context(catalog))


class TestDecisions:
    def test_what_one_may_is_allowed_whoever_comes_first(self) -> None:
        assert listed(snapshot(a=ECHO, b=("Read",))).allows
        assert listed(snapshot(b=("Read",), a=ECHO)).allows
        assert listed(snapshot(b=("Read",))).refuses
        assert listed(snapshot()).rule == "identity"

    @pytest.mark.parametrize("order", ["ab", "ba"])
    def test_what_one_may_after_a_person_was_asked_is_more_than_what_none_may(
        self, order: str
    ) -> None:
        tools = {"a": ECHO, "b": ("mcp__srv__other",)}
        asks = rule("ask", "ask", tools=ECHO, agents=("a",))
        decision = listed(snapshot(asks, **{name: tools[name] for name in order}))
        assert (decision.effect, decision.asks) == ("ask", True)

    @pytest.mark.parametrize("order", ["ac", "ca"])
    def test_what_one_may_at_once_is_more_than_that(self, order: str) -> None:
        asks = rule("ask", "ask", tools=ECHO, agents=("a",))
        assert listed(snapshot(asks, **dict.fromkeys(order, ECHO))).allows

    def test_who_is_refused_as_a_whole_adds_nothing_and_says_nothing(self) -> None:
        made = snapshot(a=("mcp__srv__other",), b=ECHO)
        refused = msgspec.structs.replace(
            made.agents["b"], refusal=made.agents["a"].upstreams["srv"].declared.tools["other"]
        )
        made = msgspec.structs.replace(made, agents={**made.agents, "b": refused})
        assert listed(made).rule == "not declared"

    def test_who_is_observed_is_let_through(self) -> None:
        made = snapshot(a=("Read",))
        watched = msgspec.structs.replace(made.agents["a"], observed=True, upstreams={})
        decision = listed(msgspec.structs.replace(made, agents={"a": watched}))
        assert (decision.effect, decision.enforced) == ("deny", False)

    def test_an_upstream_that_nobody_has_is_nobodys(self) -> None:
        assert listed(snapshot(a=ECHO), "other").rule == "identity"


class TestPermissions:
    def one(self, *, accepted: Rules | None = None, **more: Any) -> Snapshot:
        grants = operator(grants=ALL, ceiling=False)
        rules = Rules([agent(list(ECHO))], grants)
        return compile_snapshot(
            rules, {"srv": UpstreamTraits()}, "digest", accepted=accepted, **more
        )

    def test_are_those_of_the_agent(self) -> None:
        made = self.one()
        here = permissions_on("a", "srv", made)
        assert here == made.agents["a"].upstreams["srv"]
        assert here.reachable
        assert here.resources is not None

    @pytest.mark.parametrize(("who", "upstream"), [(None, "srv"), ("b", "srv"), ("a", "other")])
    def test_nobody_and_nowhere_have_none(self, who: str | None, upstream: str) -> None:
        assert permissions_on(who, upstream, self.one()) == NOTHING

    def test_who_is_observed_has_everything(self) -> None:
        everything = permissions_on("b", "other", self.one(observe=True))
        assert everything.reachable
        assert everything.resources is everything.prompts is everything.sampling
        assert everything.resources is not None
        made = self.one()
        watched = {"a": msgspec.structs.replace(made.agents["a"], observed=True)}
        watching = msgspec.structs.replace(made, agents=watched)
        assert permissions_on("a", "other", watching) == everything
        assert permissions_on("b", "other", watching) == NOTHING

    @pytest.mark.parametrize(
        ("tools", "grants", "has"),
        [
            (ECHO, ALL, (True, True, True, True)),
            ((), ALL, (False, True, True, True)),
            (ECHO, Grants(), (True, False, False, False)),
            (ECHO, Grants(resources=("srv",)), (True, True, False, False)),
            (ECHO, Grants(prompts=("srv",)), (True, False, True, False)),
            (ECHO, Grants(sampling=("srv",)), (True, False, False, True)),
        ],
    )
    def test_what_nobody_accepted_does_not_count(
        self, tools: tuple[str, ...], grants: Grants, has: tuple[bool, ...]
    ) -> None:
        before = Rules([agent(list(tools))], operator(grants=grants, ceiling=False))
        here = permissions_on("a", "srv", self.one(accepted=before))
        found = (here.reachable, here.resources, here.prompts, here.sampling)
        assert tuple(map(bool, found)) == has

    def test_who_was_never_accepted_has_none(self) -> None:
        here = permissions_on("a", "srv", self.one(accepted=Rules()))
        assert (here.reachable, here.resources, here.prompts, here.sampling) == (
            False,
            None,
            None,
            None,
        )

    def test_of_all_together_are_the_most_of_each(self) -> None:
        assert permissions_of_any("srv", snapshot(b=("Read",), a=ECHO)).reachable
        assert not permissions_of_any("srv", snapshot(b=("Read",))).reachable
        whole = permissions_of_any("srv", self.one())
        assert whole.resources is not None
        assert whole.prompts is not None
        assert whole.sampling is not None
        assert permissions_of_any("other", self.one()).resources is None
