"""The smallest change of a call: what is found passes, and what cannot be found is said."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.judge import Facts, judge
from gateway.policy.remedy import Remedy, remedy
from gateway.policy.rules import Rule, RuleSet
from tests.policy.ruling import rule

WANTED = "mcp__db__query"


def found(arguments: dict[str, Any] | None, *rules: Rule) -> Remedy:
    whole = RuleSet(rules)
    return remedy(whole.rules, Facts(arguments=arguments), whole, WANTED)


def texts(arguments: dict[str, Any], schema: dict[str, Any], effect: Any) -> list[str]:
    return [each.text for each in found(arguments, rule("r", effect, schema=schema)).edits]


@pytest.mark.parametrize(
    ("limit", "value", "text"),
    [
        ({"maximum": 5}, 9, "give 'a' as 5"),
        ({"minimum": 5}, 1, "give 'a' as 5"),
        ({"exclusiveMaximum": 5}, 5, "give 'a' as 4"),
        ({"exclusiveMinimum": 5}, 5, "give 'a' as 6"),
        ({"const": "x"}, "y", "give 'a' as \"x\""),
        ({"enum": ["x", "y"]}, "z", "give 'a' as \"x\""),
        (False, 1, "leave out 'a'"),
        ({"properties": {"b": {"maximum": 5}}}, {"b": 9, "c": 1}, "leave out 'a.c'"),
        ({"items": {"maximum": 5}}, [1, 9], "give 'a[1]' as 5"),
    ],
)
def test_what_is_not_allowed_becomes_what_is(limit: Any, value: object, text: str) -> None:
    assert texts({"a": value}, {"properties": {"a": limit}}, "allow-only-if")[0] == text


def test_what_is_not_listed_is_left_out() -> None:
    schema = {"properties": {"a": {"maximum": 5}}}
    assert texts({"a": 9, "x": 1, "y": 2}, schema, "allow-only-if") == [
        "leave out 'x'",
        "leave out 'y'",
        "give 'a' as 5",
    ]


@pytest.mark.parametrize(
    ("limit", "value", "text"),
    [
        ({"const": True}, True, "give 'a' as false"),
        ({"const": "x"}, "x", "leave out 'a'"),
        ({"minimum": 5}, 9, "leave out 'a'"),
    ],
)
def test_what_is_denied_for_an_argument_goes_without_it(
    limit: Any, value: object, text: str
) -> None:
    assert texts({"a": value, "b": 1}, {"properties": {"a": limit}}, "deny") == [text]


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": {"pattern": "x"}}},
        {"properties": {"a": {"size": {"max_bytes": 1}}}},
        {"properties": {"b": {"const": 1}}, "required": ["b"]},
        {"anyOf": [{"properties": {"a": {"const": 1}}}]},
    ],
)
def test_nothing_is_guessed(schema: dict[str, Any]) -> None:
    whole = rule("r", "allow-only-if", schema=schema)
    assert found({"a": "hush"}, whole) == Remedy((), frozenset(("r",)))


def test_what_is_found_for_one_rule_is_told_though_another_is_stuck() -> None:
    one = rule("one", "allow-only-if", schema={"properties": {"a": {"maximum": 5}, "b": {}}})
    other = rule("other", "allow-only-if", schema={"properties": {"a": {}, "b": {"pattern": "x"}}})
    result = found({"a": 9, "b": "y"}, one, other)
    assert [each.text for each in result.edits] == ["give 'a' as 5"]
    assert result.stuck == {"other"}


def test_rules_that_want_different_things_are_not_satisfied() -> None:
    one = rule("one", "allow-only-if", schema={"properties": {"a": {"const": 1}}})
    other = rule("other", "allow-only-if", schema={"properties": {"a": {"const": 2}}}, line=2)
    assert found({"a": 3}, one, other).stuck


def test_what_is_only_observed_needs_no_remedy_and_nothing_unknown_is_mended() -> None:
    limits = {"properties": {"a": {"const": 1}}}
    assert found({"a": 3}, rule("r", "deny", schema=limits, observe=True)) == Remedy()
    assert found(None, rule("r", "deny", schema=limits)) == Remedy()


LIMIT = st.sampled_from(
    (
        *({"maximum": 5}, {"minimum": 3}, {"const": 4}, {"enum": [1, 4]}, {}, False),
        *({"properties": {"b": {"maximum": 5}}}, {"not": {"const": 4}}),
    )
)
RULE = st.builds(
    rule,
    name=st.sampled_from("abcdef"),
    effect=st.sampled_from(("deny", "allow-only-if")),
    schema=st.dictionaries(st.sampled_from("xyz"), LIMIT, min_size=1).map(
        lambda properties: {"properties": properties}
    ),
)
VALUE = st.integers(0, 9) | st.booleans() | st.fixed_dictionaries({"b": st.integers(0, 9)})


@given(
    st.lists(RULE, min_size=1, max_size=4, unique_by=lambda each: each.name),
    st.dictionaries(st.sampled_from("xyzq"), VALUE),
)
def test_with_all_edits_no_rule_refuses_but_those_that_are_stuck(
    rules: list[Rule], arguments: dict[str, Any]
) -> None:
    before = repr(arguments)
    result = found(arguments, *rules)
    assert repr(arguments) == before
    changed = eval(before)
    for edit in result.edits:
        holder = changed
        for step in edit.where[:-1]:
            holder = holder[step]
        if edit.leave_out:
            del holder[edit.where[-1]]
        else:
            holder[edit.where[-1]] = edit.value
    if result.edits:
        left = RuleSet(each for each in rules if each.name not in result.stuck)
        assert judge(left.rules, Facts(arguments=changed), left, WANTED) is None
