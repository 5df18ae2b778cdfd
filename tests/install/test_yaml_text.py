"""gateway.yaml means what init was told to write, and what people wrote in it stays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.documents import read_yaml
from gateway.errors import UserError
from gateway.install.yaml_text import add_upstreams, new_config, remove_include, set_values

TEXTS = st.text(max_size=12).map(lambda text: text.encode(errors="ignore").decode()) | (
    st.sampled_from(
        ["yes", "null", "1", "0x1", "~", "-", "- a", "a: b", "#", "a #b", "${X}", "\x85"]
    )
)
NAMES = st.from_regex(r"[A-Za-z0-9_.-]{1,12}", fullmatch=True)
ENTRIES = st.fixed_dictionaries(
    {"command": TEXTS},
    optional={
        "args": st.lists(TEXTS, min_size=1, max_size=4),
        "env": st.dictionaries(TEXTS, TEXTS, min_size=1, max_size=3),
        "cwd": TEXTS,
    },
)
NEW = {"srv": {"command": "npx", "args": ["-y"]}}


def value(text: str) -> object:
    return read_yaml(text, path="gateway.yaml").value


@given(st.dictionaries(NAMES, ENTRIES, min_size=1, max_size=3))
def test_a_new_configuration_means_what_it_was_made_of(
    upstreams: dict[str, dict[str, object]],
) -> None:
    text = new_config({"mode": "observe", "agents_from": ["~/.claude/agents"]}, upstreams)
    assert value(text) == {
        "mode": "observe",
        "agents_from": ["~/.claude/agents"],
        "upstreams": upstreams,
    }


@given(st.dictionaries(NAMES, ENTRIES, min_size=1, max_size=2), ENTRIES)
def test_an_upstream_is_added_to_what_is_there(
    upstreams: dict[str, dict[str, object]], entry: dict[str, object]
) -> None:
    text = new_config({"mode": "observe"}, upstreams)
    added = add_upstreams(text, {"it's new": entry}, path="gateway.yaml")
    assert value(added) == {"mode": "observe", "upstreams": {"it's new": entry, **upstreams}}
    lines = iter(added.splitlines())
    assert all(line in lines for line in text.splitlines())


class TestAdding:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("", 'upstreams:\n  srv:\n    command: npx\n    args: ["-y"]'),
            (
                "# mine\nmode: observe # yes\n",
                "# mine\nmode: observe # yes\nupstreams:\n  srv:\n    command: npx\n"
                '    args: ["-y"]\n',
            ),
            (
                "upstreams: # all\n    # first\n    a: {url: 'http://h'}  # it\nmode: observe\n",
                'upstreams: # all\n    srv:\n        command: npx\n        args: ["-y"]\n'
                "    # first\n    a: {url: 'http://h'}  # it\nmode: observe\n",
            ),
            (
                "upstreams:\r\n  a:\r\n    url: http://h\r\n",
                'upstreams:\r\n  srv:\r\n    command: npx\r\n    args: ["-y"]\r\n'
                "  a:\r\n    url: http://h\r\n",
            ),
        ],
    )
    def test_comments_and_layout_stay(self, text: str, expected: str) -> None:
        assert add_upstreams(text, NEW, path="gateway.yaml") == expected

    @pytest.mark.parametrize(
        "text",
        [
            "upstreams: {a: {url: 'http://h'}}\n",
            "{upstreams: {}}\n",
            "upstreams: &x\n  a:\n    url: http://h\n",
            "mode: observe\n...\n",
            "- a\n",
            "upstreams: {}\n",
        ],
    )
    def test_what_cannot_be_changed_safely_is_for_a_person(self, text: str) -> None:
        with pytest.raises(UserError) as raised:
            add_upstreams(text, NEW, path="gateway.yaml")
        assert "by hand" in raised.value.message
        assert "srv" in raised.value.message


class TestSetting:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("mode: observe\n", "mode: enforce\n"),
            ("# a\nmode:   'observe'   # why\nx: 1", "# a\nmode:   enforce   # why\nx: 1"),
            ("# a\n\nx: 1\n", "# a\n\nmode: enforce\nx: 1\n"),
            ("", "mode: enforce"),
            ("mode: enforce\n", "mode: enforce\n"),
            ("x:\n  mode: observe\nmode: observe\r\n", None),
            ("{mode: observe}\n", None),
            ("mode: [observe]\n", None),
            ("mode: &a observe\n", None),
        ],
    )
    def test_one_word_changes_in_place(self, text: str, expected: str | None) -> None:
        if expected is None:
            with pytest.raises(UserError, match="by hand"):
                set_values(text, {"mode": "enforce"}, path="gateway.yaml")
        else:
            assert set_values(text, {"mode": "enforce"}, path="gateway.yaml") == expected


class TestIncluding:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("a: 1\ninclude: .mcp.json # it\nb: 2\n", "a: 1\nb: 2\n"),
            ("a: 1\ninclude: [.mcp.json]\n", "a: 1\n"),
            ("include:\n  - .mcp.json\nb: 2\n", "b: 2\n"),
        ],
    )
    def test_an_include_of_the_clients_file_goes(self, text: str, expected: str) -> None:
        assert remove_include(text, ".mcp.json", path="gateway.yaml") == expected

    def test_an_include_of_more_is_for_a_person(self) -> None:
        with pytest.raises(UserError, match=r"take \.mcp\.json out"):
            remove_include("include: [.mcp.json, x.json]\n", ".mcp.json", path="gateway.yaml")
