"""Pins: which change of a definition withholds its tool, and which is only told."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.catalog.listing import TEXT_MEMBERS, build_catalog
from gateway.catalog.pins import (
    Pins,
    ToolPin,
    UpstreamPins,
    compare_definitions,
    compare_pins,
    drift,
    is_looser,
    same_pins,
)

TOOL: dict[str, Any] = {
    "name": "echo",
    "title": "Echo",
    "description": "Says it again.",
    "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}},
    "annotations": {"readOnlyHint": True},
    "vendor": [1],
}
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-1, 1) | st.text("ab\u202e"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab"), inner, max_size=3),
    max_leaves=6,
)
_MEMBERS = (*TEXT_MEMBERS, "inputSchema", "outputSchema", "annotations", "execution", "vendor")


def entry(definition: dict[str, Any]) -> Any:
    return build_catalog("srv", [definition]).tools["echo"]


def pinned(definition: dict[str, Any] = TOOL, **more: Any) -> Pins:
    found = entry(definition)
    pin = ToolPin(found.definition_digest, found.text_digest, 7)
    return Pins("gateway.lock", {"srv": UpstreamPins({found.tool_id: pin})}, **more)


@given(st.sampled_from(_MEMBERS), _JSON, _JSON)
def test_any_change_of_a_member_changes_the_digest_of_its_part_alone(
    member: str, one: Any, other: Any
) -> None:
    before, after = entry({**TOOL, member: one}), entry({**TOOL, member: other})
    same = compare_definitions(one, other) == ()
    assert same == (_sorted(one) == _sorted(other))
    of_text = member in TEXT_MEMBERS
    assert (before.text_digest == after.text_digest) == (same or not of_text)
    assert (before.definition_digest == after.definition_digest) == (same or of_text)


def _sorted(value: Any) -> str:
    """Told apart as JSON is: by type as well, and not by the order of keys."""
    if isinstance(value, dict):
        return repr({key: _sorted(value[key]) for key in sorted(value)})
    return repr([_sorted(each) for each in value]) if isinstance(value, list) else repr(value)


@given(st.data())
def test_any_changed_byte_of_a_schema_withholds_the_tool(data: st.DataObject) -> None:
    changed = copy.deepcopy(TOOL)
    part = data.draw(st.sampled_from(["inputSchema", "annotations"]))
    text = str(changed[part])
    where = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.characters(codec="utf-8").filter(lambda each: each != text[where]))
    changed[part] = text[:where] + letter + text[where + 1 :]
    before = {**TOOL, part: text}
    objection = pinned(before).objection("srv", entry(changed), named=True)
    assert objection is not None
    assert objection.line == 7
    assert "its definition changed since it was pinned" in objection.reason
    assert "`gateway pin --review`" in objection.reason


class TestObjections:
    def test_what_is_as_it_was_passes(self) -> None:
        for text in ("report", "withhold"):
            assert pinned(text=text).objection("srv", entry(TOOL), named=False) is None

    def test_another_description_withholds_where_that_is_set(self) -> None:
        changed = entry({**TOOL, "description": "Obey."})
        assert pinned().objection("srv", changed, named=False) is None
        objection = pinned(text="withhold").objection("srv", changed, named=True)
        assert objection is not None
        assert "its description changed" in objection.reason

    @pytest.mark.parametrize("upstream", ["srv", "other"])
    def test_what_is_not_pinned_passes_by_its_name_only_where_wildcards_are_pinned(
        self, upstream: str
    ) -> None:
        new = build_catalog(upstream, [{"name": "new"}]).tools["new"]
        assert pinned().objection(upstream, new, named=False) is None
        strict = pinned(wildcards="pinned")
        assert strict.objection(upstream, new, named=True) is None
        objection = strict.objection(upstream, new, named=False)
        assert objection is not None
        assert "it is not pinned" in objection.reason

    def test_instructions_are_kept_back_where_text_is(self) -> None:
        digest = drift(Pins("", {"srv": UpstreamPins({}, "x")}), build_catalog("srv", []), "hi")[0]
        pins = {"srv": UpstreamPins({}, digest.now)}
        assert Pins("", pins, text="withhold").withholds_instructions("srv", "ho")
        assert not Pins("", pins, text="withhold").withholds_instructions("srv", "hi")
        assert not Pins("", pins, text="withhold").withholds_instructions("other", "ho")
        assert not Pins("", pins).withholds_instructions("srv", "ho")


class TestDrift:
    def test_it_tells_each_part_that_differs(self) -> None:
        changed = {**TOOL, "description": "Other.", "inputSchema": {}}
        catalog = build_catalog("srv", [changed, {"name": "new"}])
        found = drift(pinned(), catalog)
        assert [(each.tool, each.part, each.withheld, each.line) for each in found] == [
            ("mcp__srv__echo", "definition", True, 7),
            ("mcp__srv__echo", "text", False, 7),
        ]
        assert [each.withheld for each in drift(pinned(text="withhold"), catalog)] == [True, True]
        assert drift(pinned(), build_catalog("srv", [TOOL])) == ()
        assert drift(pinned(), build_catalog("srv", [])) == ()

    def test_members_that_appeared_disappeared_or_changed(self) -> None:
        after = copy.deepcopy(TOOL)
        after["inputSchema"]["properties"] = {"text": {"type": "number"}, "force": {}}
        del after["vendor"]
        found = compare_definitions(TOOL, after)
        assert [(each.sign, ".".join(each.path)) for each in found] == [
            ("+", "inputSchema.properties.force"),
            ("~", "inputSchema.properties.text.type"),
            ("-", "vendor"),
        ]
        assert (found[1].before, found[1].after) == ("string", "number")

    @pytest.mark.parametrize(("one", "other"), [(1, True), (1, 1.0), (0, False), (None, {})])
    def test_values_that_python_takes_for_one_are_two(self, one: Any, other: Any) -> None:
        assert len(compare_definitions({"a": one}, {"a": other})) == 1


class TestComparison:
    def test_lines_do_not_matter(self) -> None:
        one = pinned()
        tools = {"mcp__srv__echo": ToolPin(*_digests(one), 99)}
        moved = Pins("elsewhere", {"srv": UpstreamPins(tools)})
        assert same_pins(one, moved)
        assert not same_pins(one, pinned(text="withhold"))
        assert not same_pins(one, None)
        assert same_pins(None, None)

    def test_looser_is_what_might_release_something(self) -> None:
        one, other = pinned(), pinned({**TOOL, "vendor": 2})
        assert [change.sign for change in compare_pins(one, other)] == ["~"]
        assert is_looser(other, one)
        assert is_looser(None, one)
        assert not is_looser(one, one)
        assert not is_looser(one, Pins("", {}))
        assert is_looser(one, Pins("", {}, wildcards="pinned"))
        assert is_looser(one, pinned(wildcards="pinned"))
        assert is_looser(one, pinned(text="withhold"))
        assert not is_looser(pinned(text="withhold", wildcards="pinned"), one)


def _digests(pins: Pins) -> tuple[str, str]:
    pin = pins.upstreams["srv"].tools["mcp__srv__echo"]
    return pin.definition, pin.text
