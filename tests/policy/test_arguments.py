"""Reasons for a model, properties that a tool does not take, and narrowed schemas."""

from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema_rs import Draft202012Validator

from gateway.catalog.listing import ToolEntry
from gateway.policy import guards
from gateway.policy.arguments import (
    Matcher,
    named,
    narrowed,
    not_taken,
    path_in_words,
    shown,
    slow_jobs,
)
from gateway.policy.guards import Guard
from gateway.policy.rules import RuleSet
from tests.policy.ruling import TAKEN, limits, rule


class TestReasons:
    @pytest.mark.parametrize(
        ("schema", "arguments", "reason"),
        [
            ({"enum": ["x", "y"]}, {"a": "hush"}, 'the argument \'a\' must be one of "x", "y"'),
            ({"const": 1}, {"a": "hush"}, "the argument 'a' must be 1"),
            ({"pattern": "x"}, {"a": "hush"}, "the argument 'a' must match \"^(?:x)$\""),
            ({"maximum": 5}, {"a": 77}, "the argument 'a' must be at most 5"),
            ({"const": 1}, {}, "'a' is missing"),
            ({"const": 1}, {"a": 1, "b": "hush"}, "'b' is not allowed"),
            ({"items": {"const": 1}}, {"a": [1, 77]}, "the argument 'a[1]' must be 1"),
            (False, {"a": "hush"}, "the argument 'a' is not allowed"),
            ({"anyOf": [{"const": 1}]}, {"a": "hush"}, "the rule's 'anyOf'"),
            ({"size": {"max_bytes": 1}}, {"a": "hush"}, "the argument 'a': The value is larger"),
        ],
    )
    def test_they_tell_what_is_wrong_without_the_value(
        self, schema: object, arguments: dict[str, object], reason: str
    ) -> None:
        compiled = Matcher(limits({"properties": {"a": schema}}))
        found = compiled.mismatch(arguments, {})
        assert reason in found
        assert "hush" not in found
        assert "77" not in found

    def test_a_name_of_an_argument_is_shown_harmless_and_short(self) -> None:
        compiled = Matcher(limits({"properties": {"a": {}}}))
        assert compiled.mismatch({"\x1b[2J" + "x" * 500: 1}, {}) == (
            "'\\x1b[2J" + "x" * 56 + "' is not allowed"
        )

    @given(st.text(min_size=4).filter(lambda text: text not in "the argument 'a' must match x"))
    def test_no_value_is_ever_repeated(self, secret: str) -> None:
        compiled = Matcher(limits({"properties": {"a": {"pattern": "x", "maxLength": 3}}}))
        try:
            reason = compiled.mismatch({"a": secret}, {})
        except UnicodeEncodeError:
            return
        assert secret.strip() == "" or secret not in reason.replace("^(?:x)$", "")


class TestWords:
    @pytest.mark.parametrize(
        ("names", "told"),
        [
            ("a", "'a'"),
            ("abc", "'a', 'b', 'c'"),
            ("abcd", "'a', 'b', 'c' and 1 more"),
            ("abcdefg", "'a', 'b', 'c' and 4 more"),
        ],
    )
    def test_names(self, names: str, told: str) -> None:
        assert named(tuple(names)) == told

    def test_a_name_has_60_characters_at_most(self) -> None:
        assert named(["x" * 60]) == repr("x" * 60)
        assert named(["x" * 61]) == repr("x" * 60)

    @pytest.mark.parametrize(
        ("where", "told"),
        [((), ""), (("a",), "'a'"), (("a", "b"), "'a.b'"), (("a", 0, "b", 12), "'a[0].b[12]'")],
    )
    def test_places(self, where: tuple[str | int, ...], told: str) -> None:
        assert path_in_words(where) == told

    def test_values_are_cut_at_200_characters(self) -> None:
        assert shown("x" * 198) == '"' + "x" * 198 + '"'
        assert shown("x" * 199) == '"' + "x" * 196 + "..."
        assert shown([1, "a", None]) == '1, "a", null'

    def test_a_guards_own_words_are_cut_too(self) -> None:
        class Long(Guard):
            def __init__(self, options: object) -> None: ...

            def check(self, value: object) -> str | None:
                return "n" * 500

        with mock.patch.object(guards, "load", return_value=Long):
            matcher = Matcher(limits({"properties": {"a": {"size": {"max_bytes": 1}}}}))
            assert matcher.mismatch({"a": "x"}, {}) == f"the argument 'a': {'n' * 200}"

    @pytest.mark.parametrize(
        ("schema", "arguments", "reason"),
        [
            ({"properties": {"b": {"const": 1}}}, {"a": {}}, "'b' is missing inside 'a'"),
            ({"properties": {"b": {}}}, {"a": {"c": 1}}, "'c' is not allowed inside 'a'"),
            (
                {"items": {"const": 1}},
                {"a": [2, 2, 2, 2, 2]},
                "the argument 'a[0]' must be 1; the argument 'a[1]' must be 1; the argument "
                "'a[2]' must be 1",
            ),
            ({"type": "object"}, {"a": 1}, "the argument 'a' must be of type \"object\""),
            ({"minLength": 2}, {"a": "x"}, "the argument 'a' must have at least 2 characters"),
        ],
    )
    def test_reasons(self, schema: object, arguments: dict[str, Any], reason: str) -> None:
        assert Matcher(limits({"properties": {"a": schema}})).mismatch(arguments, {}) == reason

    def test_what_the_arguments_as_a_whole_are_not_is_said_of_them(self) -> None:
        schema = {"properties": {"a": {}, "b": {}}, "minProperties": 2}
        reason = Matcher(limits(schema)).mismatch({"a": 1}, {})
        assert reason == "the arguments must have at least 2 properties"


class TestSlowJobs:
    def test_only_rules_with_slow_guards_have_any(self) -> None:
        plain = rule("plain", "allow-only-if", schema={"properties": {"q": {"maxLength": 5}}})
        guarded = rule("sql", "allow-only-if", schema={"properties": {"q": {"sql": {}}}}, line=2)
        arguments = {"q": "select 1"}
        assert slow_jobs("a", "mcp__db__query", arguments, RuleSet([rule("no"), plain])) == ()
        (job,) = slow_jobs("a", "mcp__db__query", arguments, RuleSet([plain, guarded, rule("no")]))
        assert (job.guard, job.value) == ("sql", b'"select 1"')


class TestNotTaken:
    RULE = limits({"properties": {"x": {"const": 1}}})

    def entry(self, number: int, schema: object = None) -> ToolEntry:
        definition = {"name": "t", "inputSchema": schema, "number": number}
        return ToolEntry("t", "t", "mcp__db__t", definition)

    def test_it_is_remembered_by_the_definition_but_for_listings(self) -> None:
        rules = RuleSet()
        entry = self.entry(1, {"properties": {"y": {}}})
        assert not_taken(self.RULE, entry, rules, listing=True) == ("x",)
        assert rules.unknown == {}
        found = not_taken(self.RULE, entry, rules)
        assert found == ("x",)
        assert not_taken(self.RULE, entry, rules) is found
        assert len(rules.unknown) == 1

    def test_definitions_without_end_do_not_fill_the_memory(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("gateway.policy.arguments.REMEMBERED", 3)
        rules = RuleSet()
        sizes = []
        for number in range(7):
            not_taken(self.RULE, self.entry(number), rules)
            sizes.append(len(rules.unknown))
        assert sizes == [1, 2, 3, 1, 2, 3, 1]


class TestNarrowed:
    def shown(self, schema: dict[str, Any], **more: Any) -> dict[str, Any]:
        only = rule("only", "allow-only-if", schema=schema, **more)
        taken = {"type": "object", "properties": TAKEN, "required": ["force"]}
        return narrowed(taken, [only])

    def test_a_property_shows_its_limits_and_whose_they_are(self) -> None:
        found = self.shown({"properties": {"table": {"enum": ["x"]}, "force": {}}})
        assert found["properties"]["table"] == {
            "type": "string",
            "enum": ["x"],
            "description": 'Limited by policy only: must be one of "x".',
        }
        assert found["required"] == ["force", "table"]

    def test_what_is_refused_is_not_shown(self) -> None:
        found = self.shown({"properties": {"table": {"enum": ["x"]}, "force": {}}})
        assert set(found["properties"]) == {"table", "force"}
        assert found["additionalProperties"] is False
        assert found["properties"]["force"] == TAKEN["force"]

    def test_a_guard_is_told_in_words(self) -> None:
        found = self.shown({"properties": {"table": {"size": {"max_bytes": 3}}}})
        assert "size" not in found["properties"]["table"]
        assert "max_bytes" in found["properties"]["table"]["description"]

    def test_the_rules_own_message_is_told(self) -> None:
        found = self.shown({"properties": {"table": {"const": "x"}}}, message="Only x.")
        assert found["properties"]["table"]["description"] == "Limited by policy only: Only x."

    @pytest.mark.parametrize("more", [{"observe": True}, {"effect": "deny"}])
    def test_what_does_not_bind_is_not_shown(self, more: dict[str, Any]) -> None:
        effect = more.pop("effect", "allow-only-if")
        quiet = rule("quiet", effect, schema={"properties": {"table": {"const": "x"}}}, **more)
        assert narrowed({"properties": TAKEN}, [quiet]) == {"properties": TAKEN}

    def test_the_original_is_left_alone(self) -> None:
        before = {"properties": {"table": {"type": "string"}}}
        narrowed(
            before, [rule("o", "allow-only-if", schema={"properties": {"table": {"const": 1}}})]
        )
        assert before == {"properties": {"table": {"type": "string"}}}

    def test_a_tool_may_name_no_properties_or_nonsense(self) -> None:
        only = rule("only", "allow-only-if", schema={"properties": {"a": {"const": 1}}})
        for before in ({}, {"properties": 5}, {"properties": {"a": True}, "required": 5}):
            found = narrowed(before, [only])
            assert found["properties"] == {
                "a": {"const": 1, "description": "Limited by policy only: must be 1."}
            }
            assert found["required"] == ["a"]

    def test_what_must_be_absent_is_gone_and_what_is_only_listed_is_shown_as_it_is(self) -> None:
        found = self.shown({"properties": {"table": False, "limit": {}, "new": {}}})
        assert found["properties"] == {
            "limit": TAKEN["limit"],
            "new": {"description": "Limited by policy only: see schema."},
        }
        assert found["required"] == ["force"]

    def test_a_rule_that_shows_nothing_hides_none_of_those_behind_it(self) -> None:
        only = rule("only", "allow-only-if", schema={"properties": {"table": {"const": "x"}}})
        found: Any = narrowed({"properties": TAKEN}, [rule("no"), only])
        assert found["properties"]["table"]["const"] == "x"

    @pytest.mark.parametrize("said", ["", 5, None])
    def test_a_description_that_says_nothing_is_replaced(self, said: object) -> None:
        only = rule("only", "allow-only-if", schema={"properties": {"a": {"const": 1}}})
        found: Any = narrowed({"properties": {"a": {"description": said}}}, [only])
        told = "Limited by policy only: must be 1."
        assert found["properties"]["a"]["description"] == told

    def test_where_other_arguments_are_allowed_they_are_shown(self) -> None:
        opened = limits({"properties": {"table": {"const": "x"}}}, unlisted="allow")
        only = rule("only", "allow-only-if", arguments=opened)
        found: Any = narrowed({"properties": TAKEN, "additionalProperties": True}, [only])
        assert set(found["properties"]) == set(TAKEN)
        assert found["additionalProperties"] is True

    def test_properties_by_pattern_leave_it_open(self) -> None:
        found = self.shown({"patternProperties": {"t.*": {}}, "properties": {"table": {}}})
        assert "additionalProperties" not in found
        assert found["properties"] == TAKEN

    @pytest.mark.parametrize(
        ("taken", "limit", "shown"),
        [
            ({"enum": ["a", "b"]}, {"enum": ["b", "c"]}, {"enum": ["b"]}),
            ({"enum": 5}, {"enum": ["b"]}, {"enum": 5, "allOf": [{"enum": ["b"]}]}),
            ({"maximum": 9}, {"maximum": 5}, {"type": "number", "maximum": 5}),
            ({"maximum": 5}, {"maximum": 9}, {"type": "number", "maximum": 5}),
            ({"minLength": 1}, {"minLength": 2}, {"type": "string", "minLength": 2}),
            ({"type": "integer"}, {"type": "number"}, {"type": "integer"}),
            ({"type": ["string", "null"]}, {"type": "string"}, {"type": ["string", "null"]}),
            ({"const": 1}, {"const": 1}, {"const": 1}),
            (
                {"maximum": True},
                {"maximum": 5},
                {"type": "number", "maximum": True, "allOf": [{"maximum": 5}]},
            ),
        ],
    )
    def test_limits_are_put_into_what_is_there(
        self, taken: dict[str, Any], limit: dict[str, Any], shown: dict[str, Any]
    ) -> None:
        only = rule("only", "allow-only-if", schema={"properties": {"a": limit}})
        properties: Any = narrowed({"properties": {"a": taken}}, [only])["properties"]
        found = properties["a"]
        del found["description"]
        assert found == shown

    def test_what_cannot_be_put_into_one_keyword_stands_beside(self) -> None:
        taken = {
            "properties": {
                "a": {
                    "type": "string",
                    "pattern": "^x",
                    "allOf": [{}],
                    "description": "An a. ",
                    "maxLength": "nonsense",
                }
            }
        }
        limit = {"type": "string", "pattern": "y", "maxLength": 5}
        only = rule("only", "allow-only-if", schema={"properties": {"a": limit}})
        (found,) = narrowed(taken, [only])["properties"].values()  # type: ignore[attr-defined]
        assert found["pattern"] == "^x"
        assert found["allOf"] == [{}, {"pattern": "^(?:y)$", "maxLength": 5}]
        assert found["description"] == (
            'An a. Limited by policy only: must match "^(?:y)$"; must have at most 5 characters.'
        )
        bare = {"properties": {"a": {"pattern": "^x", "allOf": 5}}}
        (found,) = narrowed(bare, [only])["properties"].values()  # type: ignore[attr-defined]
        assert found["allOf"] == [{"pattern": "^(?:y)$"}]

    _numbers = st.integers(0, 6)
    _bounds = st.fixed_dictionaries(
        {},
        optional={
            "minimum": _numbers,
            "maximum": _numbers,
            "enum": st.lists(_numbers, min_size=1, unique=True),
            "multipleOf": st.integers(1, 3),
        },
    ).filter(bool)

    @given(_bounds, _bounds, _bounds, _numbers)
    def test_it_says_what_all_of_them_say(
        self,
        taken: dict[str, object],
        one: dict[str, object],
        other: dict[str, object],
        value: int,
    ) -> None:
        rules = [
            rule("one", "allow-only-if", schema={"properties": {"n": one}}),
            rule("other", "allow-only-if", schema={"properties": {"n": other}}),
        ]
        original = {"properties": {"n": taken}}
        shown = Draft202012Validator(narrowed(original, rules))
        allowed = Draft202012Validator(original).is_valid({"n": value}) and all(
            Matcher(each.arguments).matches({"n": value}, {}) for each in rules if each.arguments
        )
        assert shown.is_valid({"n": value}) == allowed
