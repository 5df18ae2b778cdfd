"""The suggested list gives what was needed, and nothing that was not."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.catalog.names import tool_id
from gateway.policy.decide import decide
from gateway.policy.suggestion import Recorded, suggest
from gateway.policy.values import Action, Context
from tests.policy.servers import SERVERS, agent, compiled, defined, file_of

TOOLS = [(server, tool) for server, tools in SERVERS.items() for tool in tools]
ENTRIES = [tool_id(server, tool) for server, tool in TOOLS] + ["mcp__srv", "mcp__srv-two__*"]


def called(server: str, tool: str, **changes: Any) -> Recorded:
    fields: dict[str, Any] = {
        "kind": "tool",
        "tool": tool_id(server, tool),
        "upstream": server,
        "effect": "allow",
        "enforced": True,
        "rule": "declared tools",
    }
    return Recorded(**{**fields, **changes})


@given(
    st.lists(st.sampled_from(ENTRIES), unique=True),
    st.lists(st.sampled_from(TOOLS), unique=True),
    st.lists(st.sampled_from(TOOLS), unique=True),
)
def test_the_list_allows_what_was_let_through_and_nothing_else(
    declared: list[str], used: list[tuple[str, str]], refused: list[tuple[str, str]]
) -> None:
    records = [called(*each) for each in used]
    records += [called(*each, effect="deny", rule="not declared") for each in refused]
    suggestion = suggest(agent(declared), records, SERVERS)
    snapshot = compiled(agent(suggestion.entries))
    allowed = {
        (server, tool)
        for server, tool in TOOLS
        if decide("a", Action("tool", "tools/call", server, tool), snapshot, Context()).effect
        == "allow"
    }
    assert allowed == set(used)
    assert {each.tool for each in suggestion.refused} == {
        tool_id(*each) for each in refused if each not in used
    }
    assert set(suggestion.added) | set(declared) >= set(suggestion.entries)
    assert not set(suggestion.removed) & set(suggestion.entries)


def test_what_only_waits_for_a_person_is_needed() -> None:
    suggestion = suggest(agent([]), [called("srv", "echo", effect="ask", rule="r")], SERVERS)
    assert suggestion.entries == ("mcp__srv__echo",)


def test_copilots_entries_are_written_its_way() -> None:
    definition = defined(
        file_of("tools: ['srv/*', 'read', 'srv-two/echo']"), path=".github/agents/a.agent.md"
    )
    records = [called("srv", "get_a"), called("srv-two", "echo")]
    suggestion = suggest(definition, records, SERVERS)
    assert suggestion.entries == ("read", "srv-two/echo", "srv/get_a")
    assert suggestion.unjudged == ("read",)


def test_two_equal_calls_are_no_constant_yet() -> None:
    full = {"text": '{"a": 1}', "size_bytes": 8, "digest": "d"}
    records = [called("srv", "echo", arguments=full)] * 2
    assert suggest(agent([]), records, SERVERS).constants == ()
    assert suggest(agent([]), records * 2, SERVERS).constants != ()


def test_true_is_not_one_and_a_cut_text_is_not_known() -> None:
    texts = ['{"a": 1}', '{"a": true}', '{"a": 1.0}']
    records = [
        called("srv", "echo", arguments={"text": text, "digest": text, "size_bytes": 9})
        for text in texts
    ]
    assert suggest(agent([]), records, SERVERS).constants == ()
    cut = {"text": '{"a": 1}', "text_cut": True, "digest": "d", "size_bytes": 99_999}
    (constant,) = suggest(agent([]), [called("srv", "echo", arguments=cut)] * 3, SERVERS).constants
    assert (constant.key, constant.value) == (None, None)
