"""Properties that a rule constrains and a tool does not take, at every level."""

import pytest

from gateway.policy.taken import constraints_of, unknown_constraints, unknown_properties
from tests.policy.ruling import TAKEN, limits

FILTER = {
    "type": "object",
    "properties": {"table": {"type": "string"}, "rows": {"type": "array", "items": {}}},
}


def test_a_constraint_on_what_the_tool_does_not_take_is_found() -> None:
    schema = {"properties": {"tabel": {"const": 1}, "limit": {"maximum": 5}}}
    assert unknown_properties(limits(schema), {"properties": TAKEN}) == ("tabel",)


def test_also_inside_of_alternatives_and_in_required() -> None:
    schema = {"anyOf": [{"properties": {"x": {"const": 1}}}, {"required": ["y"]}]}
    assert unknown_properties(limits(schema), {"properties": TAKEN}) == ("x", "y")


def test_an_optional_one_does_no_harm_where_others_are_refused() -> None:
    schema = {"properties": {"url": {"const": 1}}}
    closed = limits(schema, optional=["url"])
    assert unknown_properties(closed, {"properties": TAKEN}) == ()
    opened = limits(schema, optional=["url"], unlisted="allow")
    assert unknown_properties(opened, {"properties": TAKEN}) == ("url",)


@pytest.mark.parametrize(
    "taken",
    [
        {"allOf": [{"properties": {"x": {}}}]},
        {"$ref": "#/$defs/t", "$defs": {"t": {"properties": {"x": {}}}}},
        {"properties": {}, "additionalProperties": True},
        {"additionalProperties": {"type": "string"}},
        {"patternProperties": {"x.*": {}}},
    ],
)
def test_a_tool_may_say_what_it_takes_in_other_ways(taken: dict[str, object]) -> None:
    assert unknown_properties(limits({"properties": {"x": {"const": 1}}}), taken) == ()


@pytest.mark.parametrize("taken", [{}, {"type": "object"}, {"properties": 5}, {"$ref": "#/no"}])
def test_a_tool_that_names_nothing_takes_nothing(taken: dict[str, object]) -> None:
    assert unknown_properties(limits({"properties": {"x": {"const": 1}}}), taken) == ("x",)


def test_one_that_is_only_listed_is_not_constrained() -> None:
    schema = {"properties": {"a": {}, "b": True, "c": False, "table": {"const": "x"}}}
    assert unknown_properties(limits(schema), {"properties": TAKEN}) == ("c",)


def test_references_in_a_circle_end() -> None:
    taken = {"$ref": "#/$defs/t", "$defs": {"t": {"$ref": "#/$defs/t"}}}
    assert unknown_properties(limits({"properties": {"x": {"const": 1}}}), taken) == ()


@pytest.mark.parametrize(
    ("limited", "unknown"),
    [
        ({"filter": {"properties": {"table": {"const": 1}}}}, ()),
        ({"filter": {"properties": {"tabel": {"const": 1}}}}, ("filter.tabel",)),
        ({"fitler": {"properties": {"table": {"const": 1}}}}, ("fitler", "fitler.table")),
        ({"free": {"properties": {"anything": {"const": 1}}}}, ()),
        ({"open": {"properties": {"anything": {"const": 1}}}}, ()),
        ({"list": {"items": {"properties": {"url": {"const": 1}}}}}, ()),
        ({"list": {"items": {"properties": {"ulr": {"const": 1}}}}}, ("list.ulr",)),
        ({"list": {"contains": {"required": ["ulr"]}}}, ("list.ulr",)),
        ({"pair": {"prefixItems": [{"properties": {"ulr": {"const": 1}}}]}}, ("pair.ulr",)),
        ({"maybe": {"properties": {"url": {"const": 1}}}}, ()),
        ({"maybe": {"properties": {"ulr": {"const": 1}}}}, ("maybe.ulr",)),
        ({"text": {"properties": {"inside": {"const": 1}}}}, ()),
    ],
)
def test_inside_of_others(limited: dict[str, object], unknown: tuple[str, ...]) -> None:
    link = {"type": "object", "properties": {"url": {"type": "string"}}}
    taken = {
        "properties": {
            "filter": FILTER,
            "free": {"type": "object"},
            "open": {**FILTER, "additionalProperties": True},
            "list": {"type": "array", "items": link},
            "pair": {"type": "array", "prefixItems": [link]},
            "maybe": {"anyOf": [{"$ref": "#/$defs/link"}, {"type": "null"}]},
            "text": {"type": "string"},
        },
        "$defs": {"link": link},
    }
    found = unknown_properties(limits({"properties": limited}, "deny"), taken)
    # What is missing is told once, by the outermost name.
    assert found == unknown[:1]


def test_an_optional_one_inside_of_others_does_no_harm() -> None:
    schema = {"properties": {"filter": {"properties": {"tabel": {"const": 1}}}}}
    taken = {"properties": {"filter": FILTER}}
    assert unknown_properties(limits(schema, optional=["filter.tabel"]), taken) == ()


def test_each_is_told_with_its_place_and_what_there_is_instead() -> None:
    schema = {"allOf": [{"properties": {"filter": {"properties": {"tabel": {"const": 1}}}}}]}
    rule = limits(schema)
    taken = {"properties": {"filter": FILTER}}
    (found,) = unknown_constraints(rule, constraints_of(rule), taken)
    assert found.name == "filter.tabel"
    assert found.where == ("allOf", 0, "properties", "filter", "properties", "tabel")
    assert found.known == ("table", "rows")


def nested(key: str, levels: int) -> dict[str, object]:
    """A tool's schema whose one property stands so many levels inside of `key`."""
    if key == "$ref":
        chain: dict[str, object] = {f"t{n}": {"$ref": f"#/$defs/t{n + 1}"} for n in range(levels)}
        chain[f"t{levels}"] = {"properties": {"y": {}}}
        return {"$ref": "#/$defs/t0", "$defs": chain}
    schema: dict[str, object] = {"properties": {"y": {}}}
    for _ in range(levels):
        schema = {key: [schema] if key.endswith("Of") else schema}
    return schema


@pytest.mark.parametrize("key", ["allOf", "anyOf", "oneOf", "then", "else", "$ref"])
def test_what_lies_too_deep_to_be_looked_at_may_be_anything(key: str) -> None:
    limited = limits({"properties": {"x": {"const": 1}}})
    assert unknown_properties(limited, nested(key, 10)) == ("x",)
    assert unknown_properties(limited, nested(key, 30)) == ()


@pytest.mark.parametrize("key", ["allOf", "then"])
def test_circles_through_other_keywords_end_too(key: str) -> None:
    inner = {"$ref": "#/$defs/t"}
    taken = {"$ref": "#/$defs/t", "$defs": {"t": {key: [inner] if key == "allOf" else inner}}}
    assert unknown_properties(limits({"properties": {"x": {"const": 1}}}), taken) == ()


@pytest.mark.parametrize("schema", [{"not": {"required": ["x"]}}, {"if": {"required": ["x"]}}])
def test_what_is_asked_under_not_and_if_counts(schema: dict[str, object]) -> None:
    assert unknown_properties(limits(schema), {"properties": TAKEN}) == ("x",)


def test_items_that_nothing_is_said_of_may_be_anything() -> None:
    schema = {"properties": {"list": {"items": {"properties": {"url": {"const": 1}}}}}}
    assert unknown_properties(limits(schema), {"properties": {"list": {"type": "array"}}}) == ()


@pytest.mark.parametrize(("said", "unknown"), [(False, ("x",)), (True, ()), ({}, ())])
def test_a_property_that_must_be_absent_is_not_taken(
    said: object, unknown: tuple[str, ...]
) -> None:
    limited = limits({"properties": {"x": {"const": 1}}})
    assert unknown_properties(limited, {"properties": {"x": said}}) == unknown
