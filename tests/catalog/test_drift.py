"""Tools that are gone: which, and what most likely took their place, or nothing."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.catalog.drift import Vanished, vanished
from gateway.catalog.listing import UpstreamCatalog, build_catalog


def tool(name: str, description: str = "", *properties: str, **more: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": {name: {"type": "string"} for name in properties}}
    return {"name": name, "description": description, "inputSchema": schema, **more}


def offers(*tools: dict[str, Any] | str) -> UpstreamCatalog:
    return build_catalog("srv", [tool(each) if isinstance(each, str) else each for each in tools])


def successor(
    name: str, *tools: dict[str, Any] | str, declared: tuple[str, ...] = ()
) -> str | None:
    (gone,) = vanished([name, *declared], offers(*tools))
    assert gone.name == name
    return gone.successor


# As servers really renamed theirs, cut to the words that matter.
_TABS = {
    "name": "browser_tabs",
    "description": "Manage a tab.",
    "inputSchema": {
        "properties": {"action": {"type": "string", "enum": ["list", "new", "close", "select"]}}
    },
}
_BROWSER = ("browser_click", "browser_navigate", "browser_navigate_back", "browser_find")


class TestVanished:
    def test_what_is_offered_has_not_vanished(self) -> None:
        assert vanished(["echo", "weird_name"], offers("echo", "weird.name", "other")) == ()

    def test_what_is_withheld_has_not_vanished(self) -> None:
        catalog = offers("a.b", "a_b")
        assert catalog.tools == {}
        assert vanished(["a_b"], catalog) == ()

    def test_each_name_is_told_once_in_the_order_given(self) -> None:
        gone = vanished(["zebra", "echo", "apple", "zebra"], offers("echo"))
        assert gone == (Vanished("zebra", None), Vanished("apple", None))

    def test_case_matters(self) -> None:
        assert [each.name for each in vanished(["ECHO"], offers("echo"))] == ["ECHO"]

    def test_an_upstream_without_tools_has_no_successors(self) -> None:
        assert vanished(["echo"], offers()) == (Vanished("echo", None),)


class TestSuccessor:
    @pytest.mark.parametrize(
        ("gone", "tools", "expected"),
        [
            # A word for looking something up is exchanged for another.
            ("get_logs", ["query_logs", "list_users", "get_project"], "query_logs"),
            (
                "get-library-docs",
                [tool("query-docs", "", "libraryId", "query"), "resolve-library-id"],
                "query-docs",
            ),
            # A word moved into the description, or into the values of a parameter.
            (
                "get_anon_key",
                [tool("get_publishable_keys", "All keys, also the anon keys."), "get_project"],
                "get_publishable_keys",
            ),
            ("browser_tab_list", [*_BROWSER, _TABS], "browser_tabs"),
            ("browser_tab_new", [*_BROWSER, _TABS], "browser_tabs"),
            ("browser_tab_close", [*_BROWSER, _TABS], "browser_tabs"),
            # Spelling, order, number, case.
            ("organisation_list", ["list_organizations", "list_users"], "list_organizations"),
            ("createIssue", ["create_issue", "create_branch"], "create_issue"),
            ("add_entries", ["entry_add", "entry_remove"], "entry_add"),
            ("send_mail", [tool("post", title="Send a mail"), "reply"], "post"),
            ("send_mail", [tool("post", annotations={"title": "Send mail"}), "reply"], "post"),
            ("HTTPProxy_start", ["http_proxy_start", "stop"], "http_proxy_start"),
        ],
    )
    def test_a_renamed_tool_is_found(self, gone: str, tools: list[Any], expected: str) -> None:
        assert successor(gone, *tools) == expected

    @pytest.mark.parametrize(
        ("gone", "tools"),
        [
            ("browser_install", [*_BROWSER, _TABS]),
            ("browser_navigate_forward", ["browser_click", "browser_find", _TABS]),
            ("deep_research", ["research_papers", "research_github", "search", "crawl"]),
            ("generate_llmstxt", [tool("interact", "Generate llmstxt, or whatever."), "crawl"]),
            # Looking something up is no likeness by itself, nor is what all names begin with.
            ("get_logs", ["list_users", "query_tables"]),
            ("acme_export", ["acme_login", "acme_logout", "acme_status", "acme_help"]),
            # A parameter of that name makes nothing of something else.
            ("get_url", [tool("open", "", "url"), "close"]),
            # The opposite of what is gone.
            ("delete_user", ["create_user", "update_user", "list_users", "get_user"]),
        ],
    )
    def test_nonsense_is_not_suggested(self, gone: str, tools: list[Any]) -> None:
        assert successor(gone, *tools) is None

    def test_what_is_declared_already_is_nobodys_successor(self) -> None:
        assert successor("get_log", "get_logs") == "get_logs"
        assert successor("get_log", "get_logs", declared=("get_logs",)) is None
        assert successor("get_log", "get.logs", declared=("get_logs",)) is None

    def test_the_name_that_is_more_alike_wins_among_equals(self) -> None:
        for tools in (("read_logs", "get_logs_now"), ("get_logs_now", "read_logs")):
            assert successor("get_logs", *tools) == "get_logs_now"

    def test_a_name_counts_for_more_than_a_title_and_that_for_more_than_a_parameter(self) -> None:
        named, titled = tool("mail_send"), tool("x", title="Send mail")
        for tools in ((named, titled), (titled, named)):
            assert successor("send_mail", *tools) == "mail_send"
        worded, described = tool("mail", "", "send"), tool("mail_box", "Can send.")
        for tools in ((worded, described), (described, worded)):
            assert successor("send_mail", *tools) == "mail"

    @pytest.mark.parametrize("words", [("steps", "step"), ("step", "steps"), ("entries", "entry")])
    def test_one_and_many_are_the_same_word(self, words: tuple[str, str]) -> None:
        gone, offered = words
        assert successor(f"mail_{gone}", tool("mail", "", offered), "page") == "mail"

    def test_words_in_nested_parts_of_a_schema_count(self) -> None:
        inner = {"anyOf": [{"const": "close"}, {"properties": {"new": {}}}]}
        schema = {"properties": {"steps": {"type": "array", "items": inner}}}
        definition = {"name": "tab", "inputSchema": schema}
        for word in ("close", "new"):
            assert successor(f"tab_{word}", definition, "page") == "tab"
        assert successor("tab_other", definition, "page") is None


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["properties", "items", "anyOf", "enum", "const", "title", "x"]), inner
        )
    ),
    max_leaves=10,
)
_definitions = st.fixed_dictionaries(
    {"name": st.text("abcAB_-.1 ", min_size=1, max_size=12)},
    optional={"title": _json, "description": _json, "inputSchema": _json, "annotations": _json},
)


@given(st.lists(st.text("abcAB_-1", max_size=12)), st.lists(_definitions, max_size=6))
def test_whatever_is_offered_a_successor_is_offered_and_not_named(
    named: list[str], definitions: list[dict[str, Any]]
) -> None:
    catalog = build_catalog("srv", definitions)
    gone = vanished(named, catalog)
    assert {each.name for each in gone} <= set(named)
    for each in gone:
        assert each.name not in catalog.tools
        if each.successor is not None:
            assert each.successor in catalog.tools
            assert each.successor not in named


def test_a_hostile_upstream_cannot_keep_it_busy() -> None:
    schema: Any = {}
    for number in range(300):
        schema = {"properties": {f"p{number}": schema}, "enum": ["x"] * 1_000}
    catalog = offers(
        *(tool(f"tool_{number}_{'y' * 100}", "word " * 100_000) for number in range(300)),
        {"name": "deep", "inputSchema": schema},
    )
    started = time.monotonic()
    vanished([f"gone_{number}" for number in range(50)], catalog)
    assert time.monotonic() - started < 10
