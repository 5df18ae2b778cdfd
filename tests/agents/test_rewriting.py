"""Another tool list in an agent file: its form and everything else stay."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.agents import read_definition
from gateway.agents.rewriting import RewriteError, with_tools

HEAD = "---\nname: tester\ndescription: d\n"
TAIL = "model: x\n---\nBody with tools: a\n"
CLAUDE = ".claude/agents/tester.md"
COPILOT = ".github/agents/tester.agent.md"


def rewritten(tools: str, *entries: str, path: str = CLAUDE) -> str:
    """What becomes of the lines between a fixed head and tail, which must stay as they are."""
    new = with_tools(f"{HEAD}{tools}{TAIL}".encode(), entries, path=path).decode()
    assert new.startswith(HEAD)
    assert new.endswith(TAIL)
    return new[len(HEAD) : -len(TAIL)]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("tools: mcp__a__x, Read\n", "tools: Read, mcp__a__y\n"),
        ("tools: mcp__a__x Read # why\n", "tools: Read, mcp__a__y # why\n"),
        ('tools:   "mcp__a__x"\n', 'tools:   "Read, mcp__a__y"\n'),
        ("tools: [mcp__a__x, Read]  # why\n", "tools: [Read, mcp__a__y]  # why\n"),
        ("tools: ['mcp__a__x']\n", "tools: ['Read', 'mcp__a__y']\n"),
        ("tools: *\n", "tools: Read, mcp__a__y\n"),
        ('tools: "*"\n', 'tools: "Read, mcp__a__y"\n'),
        ("tools: []\n", "tools: Read, mcp__a__y\n"),
        ("tools:\n", "tools: Read, mcp__a__y\n"),
        (
            "tools:\n  - mcp__a__x\n  - Read  # why\n# on the model\n",
            "tools:\n  - Read  # why\n  - mcp__a__y\n# on the model\n",
        ),
        ("tools:\n- 'mcp__a__x'\n", "tools:\n- 'Read'\n- 'mcp__a__y'\n"),
        ("tools:\n  - mcp__a__x, Read\n", "tools:\n  - Read\n  - mcp__a__y\n"),
    ],
)
def test_the_form_is_kept(before: str, after: str) -> None:
    assert rewritten(before, "Read", "mcp__a__y") == after


@pytest.mark.parametrize(
    "before", ["tools: mcp__a__x\n", "tools: [mcp__a__x]\n", "tools:\n  - mcp__a__x\n"]
)
def test_an_empty_list_is_no_missing_one(before: str) -> None:
    assert rewritten(before) == "tools: []\n"


def test_a_file_without_a_list_gets_one_at_the_end_of_its_header() -> None:
    data = b"---\nname: tester\ndescription: d\n---\nBody.\n"
    new = with_tools(data, ["mcp__a__x"], path=CLAUDE)
    assert new == data.replace(b"d\n---", b"d\ntools: mcp__a__x\n---")


def test_line_ends_of_windows_are_kept() -> None:
    data = f"{HEAD}tools: mcp__a__x\n{TAIL}".replace("\n", "\r\n").encode()
    new = with_tools(data, ["mcp__a__y"], path=CLAUDE)
    assert new == data.replace(b"mcp__a__x", b"mcp__a__y")


def test_what_is_no_utf_8_in_the_body_is_kept() -> None:
    data = f"{HEAD}tools: mcp__a__x\n{TAIL}".encode() + b"\xff\xfe\n"
    assert with_tools(data, ["mcp__a__y"], path=CLAUDE).endswith(b"\xff\xfe\n")


def test_the_list_of_copilot_is_a_list() -> None:
    tools = "tools: ['srv/x', 'read']\n"
    assert rewritten(tools, "read", "srv/y", path=COPILOT) == "tools: ['read', 'srv/y']\n"
    new = with_tools(f"{HEAD}---\n".encode(), ["srv/y"], path=COPILOT)
    assert new.decode() == f"{HEAD}tools: ['srv/y']\n---\n"


def test_a_header_that_only_the_client_can_read_is_rewritten_too() -> None:
    data = b"---\nname: tester\ndescription: a: b\ntools: mcp__a__x\n---\n"
    new = with_tools(data, ["mcp__a__y"], path=CLAUDE)
    assert new == data.replace(b"mcp__a__x", b"mcp__a__y")


@pytest.mark.parametrize(
    ("tools", "entries", "path"),
    [
        ("tools: [mcp__a__x,\n  Read]\n", ["Read"], CLAUDE),
        ("tools: mcp__a__x\n", ["not a, name"], CLAUDE),
        ("tools: mcp__a__x\n", ["*"], CLAUDE),
        ("tools: mcp__a__x\nallowed-tools: Read\n", ["Read"], CLAUDE),
        ("tools: &a mcp__a__x\n", ["Read"], CLAUDE),
        ("tools: {mcp_a_x: true}\n", ["mcp_a_x"], ".opencode/agent/tester.md"),
    ],
)
def test_what_cannot_be_changed_without_doubt_is_not_changed(
    tools: str, entries: list[str], path: str
) -> None:
    with pytest.raises(RewriteError):
        with_tools(f"{HEAD}{tools}{TAIL}".encode(), entries, path=path)


NAMES = st.lists(
    st.from_regex(r"mcp__[a-z]{1,4}__[a-z_]{0,5}[a-z]|[A-Z][a-z]{1,5}", fullmatch=True),
    max_size=6,
    unique=True,
)
FORMS = st.sampled_from(
    [
        lambda names: f"tools: {', '.join(names)}\n" if names else "tools: []\n",
        lambda names: f"tools: [{', '.join(names)}]\n",
        lambda names: "tools:\n" + "".join(f"  - {name}\n" for name in names),
        lambda names: "tools:\n" + "".join(f"- '{name}' # c\n\n" for name in names),
        lambda names: "",
    ]
)


@given(NAMES, NAMES, FORMS, st.sampled_from([TAIL, "---", "# last\n---\nBody.\n"]))
def test_what_is_written_is_what_is_read(
    old: list[str], new: list[str], form: object, tail: str
) -> None:
    assert callable(form)
    data = f"{HEAD}{form(old)}{tail}".encode()
    before = read_definition(data, path=CLAUDE)
    written = with_tools(data, new, path=CLAUDE)
    assert written.startswith(HEAD.encode())
    # A list that was not there comes last.
    assert written.endswith(tail[tail.index("---") :].encode())
    after = read_definition(written, path=CLAUDE)
    assert before is not None
    assert after is not None
    assert sorted(pattern.text for pattern in after.tools) == sorted(new)
    assert (after.status, after.inherits, after.name) == ("ok", False, before.name)
