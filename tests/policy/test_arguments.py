"""Reasons for a model, properties that a tool does not take, and narrowed schemas."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema_rs import Draft202012Validator

from gateway.policy.arguments import Matcher, narrowed
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
