"""The catalog: which listed tools are offered on, which are withheld and why, and their digests."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.catalog.listing import build_catalog
from gateway.catalog.names import normalise, unfit


def tool(name: object, **more: Any) -> dict[str, Any]:
    return {"name": name, "inputSchema": {"type": "object"}, **more}


class TestWithholding:
    def test_tools_with_names_of_their_own_are_offered_as_they_are_defined(self) -> None:
        definition = tool("get.it", description="d", vendor={"x": [1]})
        catalog = build_catalog("my srv", [definition, tool("put")])
        assert catalog.upstream == "my srv"
        assert list(catalog.tools) == ["get.it", "put"]
        assert catalog.withheld == {}
        entry = catalog.tools["get.it"]
        assert (entry.name, entry.tool_id) == ("get.it", "mcp__my_srv__get_it")
        assert entry.definition == definition

    def test_unfit_names_are_withheld(self) -> None:
        catalog = build_catalog("srv", [tool("\u0435cho"), tool(""), tool("echo")])
        assert list(catalog.tools) == ["echo"]
        assert set(catalog.withheld) == {"\u0435cho", ""}
        assert all("visible ASCII" in reason for reason in catalog.withheld.values())

    @pytest.mark.parametrize("times", [2, 3, 4])
    def test_a_name_that_stands_more_than_once_is_withheld(self, times: int) -> None:
        listed = [tool("echo", description=str(number)) for number in range(times)]
        catalog = build_catalog("srv", [tool("put"), *listed])
        assert list(catalog.tools) == ["put"]
        assert catalog.withheld == {"echo": "the upstream lists the name twice"}

    @pytest.mark.parametrize("order", list(itertools.permutations(["a.b", "a_b", "a:b"])))
    def test_names_that_clients_spell_alike_are_all_withheld(self, order: tuple[str, ...]) -> None:
        catalog = build_catalog("srv", [tool(name) for name in (*order, "put")])
        assert list(catalog.tools) == ["put"]
        assert set(catalog.withheld) == set(order)
        assert all("alike, as 'a_b'" in reason for reason in catalog.withheld.values())

    def test_a_doubled_name_withholds_what_is_spelled_like_it(self) -> None:
        for order in itertools.permutations(["a.b", "a.b", "a_b"]):
            catalog = build_catalog("srv", [tool(name) for name in order])
            assert catalog.tools == {}
            assert set(catalog.withheld) == {"a.b", "a_b"}

    def test_names_that_differ_in_case_are_different(self) -> None:
        assert set(build_catalog("srv", [tool("echo"), tool("Echo")]).tools) == {"echo", "Echo"}

    def test_a_definition_that_cannot_be_written_is_withheld(self) -> None:
        deep: Any = {}
        for _ in range(5_000):
            deep = [deep]
        catalog = build_catalog("srv", [tool("deep", x=deep), tool("echo")])
        assert list(catalog.tools) == ["echo"]
        assert catalog.withheld == {"deep": "its definition is nested too deeply"}

    @pytest.mark.parametrize("entry", [None, 5, "echo", ["echo"], {}, {"name": None}, tool(5)])
    def test_an_entry_that_names_nothing_is_left_out(self, entry: object) -> None:
        catalog = build_catalog("srv", [entry, tool("echo")])
        assert list(catalog.tools) == ["echo"]
        assert catalog.withheld == {}

    @given(st.lists(st.text("ab._\u0435 ", max_size=3)))
    def test_every_listed_name_is_either_offered_or_withheld(self, names: list[str]) -> None:
        catalog = build_catalog("srv", [tool(name) for name in names])
        assert set(catalog.tools) | set(catalog.withheld) == set(names)
        assert not set(catalog.tools) & set(catalog.withheld)
        spellings = [normalise(name) for name in names if unfit(name) is None]
        for name in names:
            alone = unfit(name) is None and spellings.count(normalise(name)) == 1
            assert (name in catalog.tools) == alone


class TestDigests:
    def digests(self, **more: Any) -> tuple[str, str, str]:
        entry = build_catalog("srv", [tool("echo", **more)]).tools["echo"]
        return entry.definition_digest, entry.text_digest, entry.digest

    def test_the_order_of_keys_does_not_matter(self) -> None:
        one = self.digests(inputSchema={"type": "object", "required": ["x"]})
        other = self.digests(inputSchema={"required": ["x"], "type": "object"})
        assert one == other
        assert all(len(digest) == 64 for digest in one)

    @pytest.mark.parametrize(
        "changed",
        [
            {"inputSchema": {"type": "object", "required": ["x"]}},
            {"outputSchema": {}},
            {"annotations": {"readOnlyHint": True}},
            {"execution": {"taskSupport": "required"}},
            {"vendor": 1},
        ],
    )
    def test_what_a_call_may_carry_or_claims_changes_the_definition_digest_alone(
        self, changed: dict[str, Any]
    ) -> None:
        schema, text, whole = self.digests()
        assert self.digests(**changed)[0] != schema
        assert self.digests(**changed)[1] == text
        assert self.digests(**changed)[2] != whole

    @pytest.mark.parametrize(
        "changed", [{"description": "other"}, {"title": "T"}, {"_meta": {}}, {"icons": []}]
    )
    def test_what_is_said_of_a_tool_changes_the_text_digest_alone(
        self, changed: dict[str, Any]
    ) -> None:
        schema, text, whole = self.digests()
        assert self.digests(**changed)[0] == schema
        assert self.digests(**changed)[1] != text
        assert self.digests(**changed)[2] != whole

    def test_the_name_is_part_of_the_definition(self) -> None:
        catalog = build_catalog("srv", [tool("one"), tool("two")])
        assert catalog.tools["one"].digest != catalog.tools["two"].digest
