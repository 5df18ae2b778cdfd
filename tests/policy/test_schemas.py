"""What the schema of a rule means, and what of it is refused when it is read."""

from collections.abc import Mapping
from typing import Any

import pytest

from gateway.policy.arguments import Matcher
from gateway.policy.rules import RuleEffect
from gateway.policy.schemas import MAX_DEPTH, read_schema
from tests.policy.ruling import limits


def matched(
    schema: Mapping[str, object], *arguments: Mapping[str, object], **how: Any
) -> list[bool]:
    compiled = Matcher(limits(schema, **how))
    return [compiled.matches(each, {}) for each in arguments]


def blamed(schema: Mapping[str, object], effect: RuleEffect = "allow-only-if") -> dict[str, str]:
    found = read_schema(schema, effect=effect, line=1)
    assert isinstance(found, tuple), "it was taken"
    return {".".join(map(str, problem.where)): problem.sentence for problem in found}


class TestAllowOnlyIf:
    def test_a_constrained_property_is_required(self) -> None:
        assert matched({"properties": {"a": {"const": 1}}}, {"a": 1}, {}) == [True, False]

    def test_a_property_that_is_only_listed_is_not(self) -> None:
        schema = {"properties": {"a": {}, "b": True, "c": False}}
        assert matched(schema, {}, {"a": 1, "b": 2}, {"c": 3}) == [True, True, False]

    def test_an_optional_property_may_be_absent_and_must_match_where_it_is_not(self) -> None:
        schema = {"properties": {"a": {"const": 1}, "f": {"properties": {"x": {"const": 2}}}}}
        cases = ({"f": {}}, {"a": 1, "f": {"x": 2}}, {"a": 2, "f": {}}, {"f": {"x": 3}}, {})
        found = matched(schema, *cases, optional=["a", "f.x"])
        assert found == [True, True, False, False, False]

    def test_what_is_not_listed_is_refused_at_every_level(self) -> None:
        schema = {
            "properties": {"f": {"properties": {"x": {}}}, "l": {"items": {"properties": {}}}}
        }
        cases = ({"f": {"x": 1}, "l": [{}]}, {"f": {"y": 1}, "l": []}, {"f": {}, "l": [{"z": 1}]})
        assert matched(schema, *cases) == [True, False, False]

    def test_unless_it_is_said_otherwise(self) -> None:
        schema = {"properties": {"a": {"const": 1}}}
        assert matched(schema, {"a": 1, "b": 2}, unlisted="allow") == [True]
        assert matched({**schema, "additionalProperties": True}, {"a": 1, "b": 2}) == [True]

    def test_alternatives_are_closed_together(self) -> None:
        schema = {"anyOf": [{"properties": {"a": {"const": 1}}}, {"properties": {"b": {}}}]}
        assert matched(schema, {"a": 1}, {"b": 5}, {"a": 1, "c": 1}) == [True, True, False]

    @pytest.mark.parametrize(
        ("constraint", "value"),
        [
            ({"pattern": "a+"}, ["aa"]),
            ({"maxLength": 3}, 1234),
            ({"maximum": 3}, "9"),
            ({"format": "uri"}, 5),
            ({"maxItems": 1}, "ab"),
            ({"properties": {"x": {"const": 1}}}, "x"),
        ],
    )
    def test_a_value_of_another_type_is_no_way_around(
        self, constraint: dict[str, object], value: object
    ) -> None:
        assert matched({"properties": {"a": constraint}}, {"a": value}) == [False]

    def test_further_items_are_refused_where_items_are_listed(self) -> None:
        schema = {"properties": {"a": {"prefixItems": [{"const": 1}]}}}
        assert matched(schema, {"a": [1]}, {"a": [1, 2]}) == [True, False]

    def test_a_definition_means_the_same_wherever_it_stands(self) -> None:
        schema = {
            "$defs": {"x": {"properties": {"k": {"const": 1}}}},
            "properties": {"o": {"$ref": "#/$defs/x"}},
        }
        cases = ({"o": {"k": 1}}, {"o": {}}, {"o": {"k": 1, "j": 1}}, {"o": 1})
        assert matched(schema, *cases) == [True, False, False, False]

    def test_formats_are_asserted(self) -> None:
        schema = {"properties": {"a": {"format": "ipv4"}}}
        assert matched(schema, {"a": "10.0.0.1"}, {"a": "10.0.0.256"}) == [True, False]


class TestPatterns:
    def test_the_whole_text_is_compared(self) -> None:
        schema = {"properties": {"a": {"pattern": "x|yy"}}}
        cases = ({"a": "x"}, {"a": "yy"}, {"a": "xyy"}, {"a": "x\n"}, {"a": " x"})
        assert matched(schema, *cases) == [True, True, False, False, False]

    def test_unless_it_is_said_otherwise(self) -> None:
        schema = {"properties": {"a": {"pattern": "x", "x-unanchored": True}}}
        assert matched(schema, {"a": "axa"}, {"a": "b"}) == [True, False]

    def test_names_of_properties_are_compared_whole(self) -> None:
        schema = {"patternProperties": {"a|b": {"const": 1}}}
        assert matched(schema, {"a": 1}, {"b": 2}, {"ab": 1}) == [True, False, False]

    @pytest.mark.parametrize(
        "pattern", ["a)|(b", "(?=a)", r"(a)\1", "(", "a{1000}{1000}", "(?x)a#"]
    )
    def test_what_a_linear_engine_cannot_match_is_refused(self, pattern: str) -> None:
        assert "properties.a.pattern" in blamed({"properties": {"a": {"pattern": pattern}}})

    @pytest.mark.parametrize(
        ("schema", "effect"),
        [
            ({"properties": {"a": {"pattern": "rm"}}}, "deny"),
            ({"properties": {"a": {"pattern": "rm"}}}, "ask"),
            ({"properties": {"a": {"not": {"pattern": "rm"}}}}, "allow-only-if"),
        ],
    )
    def test_one_that_refuses_must_say_what_it_is_compared_with(
        self, schema: dict[str, object], effect: RuleEffect
    ) -> None:
        (sentence,) = blamed(schema, effect).values()
        assert "x-unanchored" in sentence

    @pytest.mark.parametrize("pattern", ["^rm$", ".*rm.*", "^rm.*"])
    def test_one_that_refuses_may_say_so_itself(self, pattern: str) -> None:
        schema = {"properties": {"a": {"pattern": pattern}}}
        assert matched(schema, {"a": "rm"}, effect="deny") == [True]


class TestDenyAndAsk:
    def test_they_match_where_the_property_is_there_and_matches(self) -> None:
        schema = {"properties": {"force": {"const": True}}}
        cases = ({"force": True}, {"force": True, "x": 1}, {"force": False}, {})
        assert matched(schema, *cases, effect="deny") == [True, True, False, False]

    def test_a_value_of_another_type_counts_as_a_match(self) -> None:
        schema = {"properties": {"a": {"pattern": "^x$"}}}
        assert matched(schema, {"a": ["x"]}, effect="deny") == [True]

    def test_nothing_is_added_under_not(self) -> None:
        schema = {"properties": {"a": {"not": {"properties": {"x": {"const": 1}}}}}}
        # Required or typed, `not` would match more.
        assert matched(schema, {"a": {}}, {"a": 5}, effect="allow-only-if") == [False, False]


class TestGuards:
    def test_a_guard_is_a_keyword(self) -> None:
        schema = {"properties": {"a": {"size": {"max_bytes": 3}}}}
        assert matched(schema, {"a": "abc"}, {"a": "abcd"}) == [True, False]

    @pytest.mark.parametrize("word", ["not", "if", "contains"])
    def test_not_where_failing_could_allow(self, word: str) -> None:
        found = blamed({"properties": {"a": {word: {"size": {"max_bytes": 3}}}}})
        assert "allow-only-if" in found[f"properties.a.{word}.size"]

    def test_nor_in_a_rule_that_refuses_what_matches(self) -> None:
        found = blamed({"properties": {"a": {"size": {"max_bytes": 3}}}}, "deny")
        assert "allow-only-if" in found["properties.a.size"]

    def test_its_options_are_checked(self) -> None:
        found = blamed({"properties": {"a": {"size": {"max_byte": 3}}}})
        assert list(found) == ["properties.a.size.max_byte"]


class TestRefusals:
    @pytest.mark.parametrize(
        ("schema", "where"),
        [
            ({"propertys": {}}, "propertys"),
            ({"properties": {"a": {"patern": "x"}}}, "properties.a.patern"),
            ({"properties": {"a": 5}}, "properties.a"),
            ({"properties": []}, "properties"),
            ({"anyOf": {}}, "anyOf"),
            ({"$ref": "https://host.example/schema"}, "$ref"),
            ({"$ref": "#/$defs/none"}, "$ref"),
            ({"$dynamicRef": "#x"}, "$dynamicRef"),
            ({"$id": "x"}, "$id"),
            ({"$schema": "http://json-schema.org/draft-07/schema#"}, "$schema"),
            ({"then": {}}, "then"),
            ({"properties": {"a": {"x-unanchored": True}}}, "properties.a.x-unanchored"),
            ({"properties": {"a": {"format": "nonsense"}}}, "properties.a.format"),
            ({"properties": {"a": {"type": "text"}}}, "properties.a.type"),
            ({"properties": {"a": {"maximum": "3"}}}, "properties.a.maximum"),
            ({"properties": {"a": {"const": float("inf")}}}, ""),
        ],
    )
    def test_a_silent_hole_is_an_error_at_its_place(
        self, schema: dict[str, object], where: str
    ) -> None:
        assert where in blamed(schema)

    def test_a_definition_may_not_lead_back_to_itself(self) -> None:
        loop = {"properties": {"k": {"$ref": "#/$defs/a"}}}
        found = blamed({"$defs": {"a": loop}, "$ref": "#/$defs/a"})
        assert list(found) == ["$defs.a.properties.k.$ref"]

    def test_depth_is_bounded(self) -> None:
        schema: dict[str, object] = {}
        for _ in range(MAX_DEPTH + 2):
            schema = {"items": schema}
        assert "nested deeper" in next(iter(blamed({"properties": {"a": schema}}).values()))

    def test_size_is_bounded_where_definitions_multiply(self) -> None:
        defs: dict[str, object] = {"d0": {"const": 1}}
        for n in range(1, 12):
            ref = {"$ref": f"#/$defs/d{n - 1}"}
            defs[f"d{n}"] = {"allOf": [ref, ref, ref]}
        found = blamed({"$defs": defs, "properties": {"a": {"$ref": "#/$defs/d11"}}})
        assert any("more than" in sentence for sentence in found.values())

    def test_every_mistake_is_told_at_once(self) -> None:
        assert len(blamed({"a": 1, "b": 2, "properties": {"c": {"d": 3}}})) == 3
