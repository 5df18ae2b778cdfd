"""One decision: what it comes to, which rule and line it names, and what it says to the model."""

from typing import Any, get_args

import pytest

from gateway.catalog.listing import UpstreamCatalog
from gateway.policy.compile import Rules, compile_snapshot
from gateway.policy.decide import decide
from gateway.policy.rules import Rule
from gateway.policy.snapshot import Grants, Snapshot, UpstreamTraits
from gateway.policy.values import Action, Context, Decision
from gateway.wire.methods import ActionKind
from tests.policy.ruling import rule
from tests.policy.servers import agent, call, catalog, compiled, defined, file_of, operator

AGENT_FILE = ".claude/agents/a.md"
OFFERED = catalog("srv", ["echo"])


def ask(snapshot: Any, kind: Any, method: str, server: str = "srv", **context: Any) -> Decision:
    return decide("a", Action(kind, method, server, "x"), snapshot, Context(**context))


class TestTools:
    def test_a_declared_and_offered_tool_is_allowed_with_its_line_and_definition(self) -> None:
        decision = call(compiled(agent(["Read", "mcp__srv__echo"])), "srv", "echo", ["echo"])
        assert decision.effect == "allow"
        assert decision.allows
        assert not decision.provisional
        assert (decision.rule, decision.file, decision.line) == ("declared tools", AGENT_FILE, 6)
        assert decision.tool_id == "mcp__srv__echo"
        assert decision.definition == OFFERED.tools["echo"].digest != ""
        assert decision.reason == (
            "mcp__srv__echo is declared by the agent 'a' as 'mcp__srv__echo'"
        )

    def test_without_a_catalog_the_decision_is_provisional_and_lets_nothing_pass(self) -> None:
        decision = call(compiled(agent(["mcp__srv__echo"])), "srv", "echo")
        assert (decision.effect, decision.provisional, decision.allows) == ("allow", True, False)
        assert (decision.rule, decision.line, decision.definition) == ("declared tools", 5, "")
        assert decision.tool_id == "mcp__srv__echo"

    def test_what_is_not_declared_is_denied_at_the_line_of_the_list(self) -> None:
        decision = call(compiled(agent(["mcp__srv__echo"])), "srv", "other", ["echo", "other"])
        assert (decision.effect, decision.rule) == ("deny", "not declared")
        assert (decision.file, decision.line) == (AGENT_FILE, 4)
        assert decision.tool_id == "mcp__srv__other"
        assert not decision.hidden
        assert decision.reason == "mcp__srv__other is not declared by the agent 'a'"

    def test_a_disallowed_tool_is_denied_by_that_entry_before_anything_else(self) -> None:
        snapshot = compiled(agent(["mcp__srv", "mcp__t"], ["mcp__srv__echo"]))
        decision = call(snapshot, "srv", "echo", [])
        assert (decision.effect, decision.rule, decision.line) == ("deny", "disallowed tools", 8)
        assert decision.reason == (
            "mcp__srv__echo is disallowed for the agent 'a' by 'mcp__srv__echo'"
        )

    def test_an_exact_entry_is_named_before_the_whole_server(self) -> None:
        snapshot = compiled(agent(["mcp__srv", "mcp__srv__echo"]))
        assert call(snapshot, "srv", "echo").line == 6
        assert call(snapshot, "srv", "get_a").line == 5

    def test_what_lies_outside_the_ceiling_is_denied_by_the_operators_entry(self) -> None:
        snapshot = compiled(agent(["mcp__srv"]), operators=operator("mcp__srv__get_a"))
        decision = call(snapshot, "srv", "echo", ["echo"])
        assert (decision.effect, decision.rule) == ("deny", "ceiling")
        assert (decision.file, decision.line) == ("gateway.yaml", 9)
        assert decision.reason == (
            "mcp__srv__echo is declared by the agent 'a', but not within the operator's max_tools "
            "for it"
        )
        assert call(snapshot, "srv", "get_a", ["get_a"]).allows

    def test_a_ceiling_that_is_empty_or_names_another_server_leaves_nothing(self) -> None:
        for ceiling in ([], ["mcp__srv-two"]):
            snapshot = compiled(agent(["mcp__srv"]), operators=operator(*ceiling))
            assert call(snapshot, "srv", "echo", ["echo"]).rule == "ceiling"

    def test_a_tool_that_is_not_offered_is_denied_at_the_declaring_line(self) -> None:
        decision = call(compiled(agent(["mcp__srv__echo"])), "srv", "echo", ["other"])
        assert (decision.effect, decision.rule, decision.line) == ("deny", "not offered", 5)
        assert "the upstream 'srv' does not offer it now" in decision.reason

    def test_a_withheld_tool_is_denied_with_the_reason(self) -> None:
        snapshot = compiled(agent(["mcp__srv"]))
        decision = call(snapshot, "srv", "a.b", ["a.b", "a_b"])
        assert (decision.effect, decision.rule, decision.line) == ("deny", "withheld", 5)
        assert "clients spell 'a.b' and 'a_b' alike" in decision.reason

    def test_what_is_withheld_is_denied_even_where_it_is_also_listed(self) -> None:
        both = UpstreamCatalog("srv", OFFERED.tools, {"echo": "of a doubt"})
        action = Action("tool", "tools/call", "srv", "echo")
        decision = decide("a", action, compiled(agent(["mcp__srv"])), Context(both))
        assert decision.rule == "withheld"

    @pytest.mark.parametrize("name", ["", "écho", "echo\u200b", "e\ncho", " echo", "x" * 129])
    def test_an_unfit_name_is_denied_whatever_is_declared(self, name: str) -> None:
        decision = call(compiled(agent(["mcp__srv"])), "srv", name)
        assert (decision.effect, decision.rule) == ("deny", "not declared")
        assert (decision.file, decision.line) == (AGENT_FILE, 4)
        assert "cannot be declared" in decision.reason
        assert "visible ASCII" in decision.reason

    def test_an_upstream_that_is_not_configured_has_nothing(self) -> None:
        decision = call(compiled(agent(["mcp__srv", "mcp__nowhere"])), "nowhere", "echo", ["echo"])
        assert (decision.effect, decision.tool_id) == ("deny", "mcp__nowhere__echo")


class TestIdentity:
    @pytest.mark.parametrize("name", [None, "", "A", "b", "a "])
    def test_only_a_defined_agent_may_anything(self, name: str | None) -> None:
        action = Action("tool", "tools/call", "srv", "echo")
        decision = decide(name, action, compiled(agent(["mcp__srv"])), Context(OFFERED))
        assert (decision.effect, decision.rule) == ("deny", "identity")
        assert (decision.file, decision.line) == ("", 0)
        assert decision.tool_id == "mcp__srv__echo"

    def test_each_refusal_says_what_to_do(self) -> None:
        action = Action("resource", "resources/read", "srv", "x://y")
        unnamed = decide(None, action, compiled(agent([])), Context())
        assert "--agent NAME or set default_agent" in unnamed.reason
        assert unnamed.tool_id == ""
        unknown = decide("b", action, compiled(agent([])), Context())
        assert "the agent 'b' is not defined in any agent file" in unknown.reason

    def test_a_broken_agent_file_denies_everything_with_the_finding(self) -> None:
        inline = "mcpServers: [{x: {command: y}}]"  # an earlier finding, but no error
        definition = defined(
            file_of(f"{inline}\ntools: mcp__srv\ndisallowedTools: mcp__srv__get_*")
        )
        assert definition.findings[0].severity == "info"
        (finding,) = (each for each in definition.findings if each.severity == "error")
        snapshot = compiled(definition, operators=operator(grants=Grants(resources=("srv",))))
        for kind, method in (("tool", "tools/call"), ("resource", "resources/read")):
            decision = ask(snapshot, kind, method, catalog=OFFERED)
            assert (decision.effect, decision.rule) == ("deny", "agent file")
            assert (decision.file, decision.line) == (finding.path, finding.line)
            assert decision.reason == f"the agent 'a' may use nothing: {finding.message}"


class TestNearMiss:
    DECLARED = ("mcp__srv__get-sum", "mcp__srv__execute_sql", "mcp__srv-two__list_tables")

    def suggestion(
        self, server: str, tool: str, *, method: str = "tools/call", **ceiling: Any
    ) -> str | None:
        snapshot = compiled(agent([*self.DECLARED, "mcp__a__c__*"]), **ceiling)
        reason = call(snapshot, server, tool, [tool], method=method).reason
        return reason.partition("; the declared tool ")[2].removesuffix(" resembles it") or None

    @pytest.mark.parametrize(
        ("server", "tool", "expected"),
        [
            ("srv", "exec_sql", "mcp__srv__execute_sql"),
            ("srv", "Execute_SQL", "mcp__srv__execute_sql"),
            ("srv", "execute_sql2", "mcp__srv__execute_sql"),
            ("srv", "get-env", None),
            ("srv", "list_tables", "mcp__srv-two__list_tables"),
            ("srv-two", "list_table", "mcp__srv-two__list_tables"),
            ("srv-two", "get-sum", "mcp__srv__get-sum"),
            ("my.dot srv", "get-sum", None),
            ("a__c__d", "echo", None),
            # On a connection to many upstreams, a name that belongs to none of them.
            ("", "srv_execute_sql", "mcp__srv__execute_sql"),
            ("", "list_tables", None),
            ("srv", "drop_everything", None),
        ],
    )
    def test_it_names_the_declared_tool_that_was_likely_meant(
        self, server: str, tool: str, expected: str | None
    ) -> None:
        assert self.suggestion(server, tool) == expected

    def test_the_same_upstream_comes_first(self) -> None:
        snapshot = compiled(agent(["mcp__srv-two__list_table", "mcp__srv__list_tablets"]))
        reason = call(snapshot, "srv", "list_table", ["list_table"]).reason
        assert reason.endswith("; the declared tool mcp__srv__list_tablets resembles it")

    def test_what_the_agent_may_not_call_is_not_named(self) -> None:
        assert self.suggestion("srv", "exec_sql", operators=operator("mcp__srv-two")) is None
        snapshot = compiled(agent(["mcp__srv__execute_sql"], ["mcp__srv__execute_sql"]))
        assert "resembles" not in call(snapshot, "srv", "exec_sql", ["exec_sql"]).reason

    def test_a_listing_is_not_kept_waiting_for_it(self) -> None:
        assert self.suggestion("srv", "exec_sql", method="tools/list") is None

    def test_a_long_name_is_named_whole(self) -> None:
        long = "x" * 140
        snapshot = compiled(agent([f"mcp__srv__{long}"]))
        assert f"mcp__srv__{long} resembles it" in call(snapshot, "srv", long[:120]).reason


class TestOtherActions:
    """Resources, prompts and the rest: hidden where they are not granted."""

    GRANTED = Grants(resources=("srv",), prompts=("srv-two",), sampling=("my.dot srv",))

    @pytest.mark.parametrize(
        ("kind", "allowed"),
        [
            ("resource", {"srv"}),
            ("prompt", {"srv-two"}),
            ("completion", {"srv", "srv-two"}),
            ("sampling", {"my.dot srv"}),
            ("logging", {"srv", "srv-two", "a__c"}),
            ("elicitation", {"srv", "srv-two", "a__c"}),
            ("roots", {"srv", "srv-two", "a__c"}),
            ("session", {"srv", "srv-two", "a__c"}),
            ("list", {"srv", "srv-two", "a__c"}),
            ("task", set()),
            ("unknown", set()),
        ],
    )
    def test_each_needs_its_own_grant(self, kind: str, allowed: set[str]) -> None:
        entry = operator(ceiling=False, grants=self.GRANTED)
        snapshot = compiled(agent(["mcp__a__c__echo"]), operators=entry)
        for server in ("srv", "srv-two", "my.dot srv", "a__c"):
            decision = ask(snapshot, kind, "some/method", server)
            assert decision.allows == (server in allowed)
            assert decision.hidden == (server not in allowed)
            assert decision.tool_id == ""
            assert f"some/method on {server!r} is" in decision.reason

    def test_a_grant_and_a_refusal_say_where_they_come_from(self) -> None:
        entry = operator(ceiling=False, grants=self.GRANTED)
        snapshot = compiled(agent(["mcp__a__c__echo"]), operators=entry)
        granted = ask(snapshot, "resource", "resources/read")
        assert (granted.rule, granted.file, granted.line) == ("resources", "gateway.yaml", 9)
        assert granted.reason.endswith("is granted to the agent 'a' by 'grants.resources: srv'")
        refused = ask(snapshot, "prompt", "prompts/get")
        assert (refused.rule, refused.file, refused.line) == ("prompts", AGENT_FILE, 4)
        assert refused.reason.endswith("is not granted to the agent 'a'")

    def test_a_task_is_its_starters_and_only_where_the_agent_reaches_a_tool(self) -> None:
        snapshot = compiled(agent(["mcp__srv__echo"]))
        assert ask(snapshot, "task", "tasks/get", owns_task=True).allows
        assert not ask(snapshot, "task", "tasks/get", owns_task=False).allows
        assert not ask(snapshot, "task", "tasks/get", "srv-two", owns_task=True).allows

    def test_an_unknown_method_passes_only_where_the_operator_and_the_agent_say_so(self) -> None:
        snapshot = compiled(agent(["mcp__srv__echo"]), passthrough=["srv", "srv-two"])
        decision = ask(snapshot, "unknown", "vendor/x")
        assert decision.allows
        assert decision.rule == "passthrough_unknown"
        assert "passthrough_unknown: true" in decision.reason
        assert not ask(snapshot, "unknown", "vendor/x", "srv-two").allows
        assert not ask(snapshot, "unknown", "vendor/x", "nowhere").allows
        refused = ask(compiled(agent(["mcp__srv"])), "unknown", "vendor/x")
        assert (refused.rule, refused.hidden) == ("unknown method", True)
        # Passing through is for the unknown alone.
        assert not ask(snapshot, "sampling", "sampling/createMessage").allows

    @pytest.mark.parametrize(
        ("tools", "disallowed", "ceiling", "reachable"),
        [
            (["mcp__srv"], [], None, True),
            (["mcp__srv__echo"], [], None, True),
            ([], [], None, False),
            (["mcp__srv"], ["mcp__srv__echo"], None, True),
            (["mcp__srv"], ["mcp__srv"], None, False),
            (["mcp__srv__echo"], ["mcp__srv"], None, False),
            (["mcp__srv"], [], ["mcp__srv-two"], False),
            (["mcp__srv"], [], ["mcp__srv__echo"], True),
            (["mcp__srv"], [], ["mcp__*"], True),
        ],
    )
    def test_what_belongs_to_tools_needs_a_tool_within_reach(
        self,
        tools: list[str],
        disallowed: list[str],
        ceiling: list[str] | None,
        reachable: bool,
    ) -> None:
        operators = None if ceiling is None else operator(*ceiling)
        snapshot = compiled(agent(tools, disallowed), operators=operators)
        assert ask(snapshot, "elicitation", "elicitation/create").allows == reachable
        assert snapshot.agents["a"].upstreams["srv"].reachable == reachable


class TestObserved:
    """What is observed goes on, and is decided by the lists all the same."""

    def snapshot(self, *rules: Rule) -> Snapshot:
        return compile_snapshot(
            Rules([agent(["mcp__srv__other"])], policies=rules),
            {"srv": UpstreamTraits()},
            "digest",
            observe=True,
        )

    def test_a_refusal_by_the_lists_is_named_though_a_rule_would_refuse_as_well(self) -> None:
        made = self.snapshot(rule("never", tools=("mcp__srv__*",)))
        decision = call(made, "srv", "echo", ["echo"])
        assert (decision.effect, decision.rule, decision.enforced) == (
            "deny",
            "not declared",
            False,
        )

    def test_an_unfit_name_is_withheld_although_it_is_only_observed(self) -> None:
        decision = call(self.snapshot(), "srv", "echo\u200b", ["echo"])
        assert (decision.effect, decision.rule, decision.enforced) == ("deny", "withheld", True)


def test_what_the_files_refuse_is_not_told_as_a_matter_of_trust() -> None:
    made = compile_snapshot(
        Rules([agent(["mcp__srv__other"])]),
        {"srv": UpstreamTraits()},
        "digest",
        accepted=Rules([agent(["mcp__srv__other"])]),
    )
    assert call(made, "srv", "echo", ["echo"]).rule == "not declared"


@pytest.mark.parametrize("kind", sorted(set(get_args(ActionKind)) - {"tool", "native"}))
def test_each_kind_of_action_is_decided_by_its_own_grant(kind: ActionKind) -> None:
    """Only tools have tool ids, only the client's own tools are protected from writing files."""
    grants = Grants(resources=("srv",), prompts=("srv",), sampling=("srv",))
    by_name = compiled(agent(["mcp__srv__echo"]))
    granted = compiled(agent([]), operators=operator(grants=grants, ceiling=False))
    given = {"owns_task": True, "protected": "gateway.yaml"}
    reached = ask(by_name, kind, f"{kind}/x", **given)
    allowed = ask(granted, kind, f"{kind}/x", **given)
    assert reached.tool_id == allowed.tool_id == ""
    present = ("logging", "elicitation", "roots", "session", "list", "task")
    assert (reached.effect == "allow") == (kind in present)
    assert (allowed.effect == "allow") == (kind not in ("task", "unknown"))
