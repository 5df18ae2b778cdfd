"""Which upstream a name belongs to: looked up, never guessed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.catalog.names import normalise
from gateway.errors import UserError
from gateway.relay.routes import ResourceRoutes, TaskOwners
from gateway.relay.surface import Aggregate, Mirror

NAMES = st.text("ab_-.", min_size=1, max_size=6)
TOOLS = st.text("ab_-.é ", max_size=8)


@given(st.lists(NAMES, min_size=1, max_size=4, unique=True), st.lists(TOOLS, max_size=6))
def test_an_exposed_name_leads_back_to_its_upstream_and_tool(
    upstreams: list[str], tools: list[str]
) -> None:
    try:
        surface = Aggregate(upstreams)
    except UserError:
        prefixes = [f"{normalise(name)}__" for name in upstreams]
        assert any(
            one.startswith(other)
            for number, one in enumerate(prefixes)
            for position, other in enumerate(prefixes)
            if number != position
        )
        return
    exposed = {surface.expose(name, tool): (name, tool) for name in upstreams for tool in tools}
    assert len(exposed) == len(upstreams) * len(set(tools))
    assert {name: surface.find(name) for name in exposed} == exposed


@pytest.mark.parametrize("upstreams", [("a", "a__b"), ("a.b", "a_b"), ("x__", "x")])
def test_upstreams_whose_names_could_be_mixed_up_are_refused(upstreams: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match="rename one of them"):
        Aggregate(upstreams)


@pytest.mark.parametrize("name", ["", "a", "a_", "a_b", "__b", "A__b", "c__b", "\uff41__b"])
def test_a_name_without_a_prefix_belongs_to_nobody(name: str) -> None:
    assert Aggregate(["a", "b"]).find(name) == ("", name)


def test_a_mirror_changes_no_name() -> None:
    mirror = Mirror("up")
    assert mirror.find("a__b") == ("up", "a__b")
    assert mirror.expose("up", "a__b") == "a__b"


class TestResources:
    def test_the_first_upstream_keeps_a_uri(self) -> None:
        routes = ResourceRoutes()
        routes.learn("one", [{"uri": "x:1"}, {"uriTemplate": "t:{id}"}, {"uri": 7}, "odd"])
        routes.learn("two", [{"uri": "x:1"}, {"uri": "y:1"}])
        assert routes.find("x:1", ("one", "two")) == "one"
        assert routes.find("y:1", ("one", "two")) == "two"
        assert routes.find("t:5", ("one", "two")) == "one"
        assert routes.find("t:{id}", ("one", "two")) == "one"

    def test_an_unknown_uri_is_guessed_only_where_there_is_no_choice(self) -> None:
        routes = ResourceRoutes()
        assert routes.find("z:1", ("one", "two")) == ""
        assert routes.find("z:1", ("one",)) == "one"
        assert routes.find("z:1", ()) == ""

    def test_templates_of_two_upstreams_that_both_fit_decide_nothing(self) -> None:
        routes = ResourceRoutes()
        routes.learn("one", [{"uriTemplate": "t:{id}"}])
        routes.learn("two", [{"uriTemplate": "t:a{id}"}])
        assert routes.find("t:a1", ("one", "two")) == ""
        assert routes.find("t:b1", ("one", "two")) == "one"


class TestTasks:
    def test_only_the_starter_owns_a_task(self) -> None:
        tasks = TaskOwners()
        tasks.started("up", "t", "alice")
        tasks.started("up", "t", "bob")
        assert tasks.owns("up", "t", "alice")
        assert not tasks.owns("up", "t", "bob")
        assert not tasks.owns("other", "t", "alice")
        assert not tasks.owns("up", "t", None)

    def test_a_task_id_of_two_upstreams_leads_nowhere(self) -> None:
        tasks = TaskOwners()
        tasks.started("one", "t", "a")
        assert tasks.upstream_of("t") == "one"
        tasks.started("two", "t", "a")
        assert tasks.upstream_of("t") == ""
        assert tasks.upstream_of("u") == ""
