"""Whatever a file says, the gateway gives no more than the client would."""

import re

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.agents import read_definition, read_definitions

PATHS = (
    ".claude/agents/a.md",
    ".github/agents/a.md",
    ".gemini/agents/a.md",
    ".opencode/agent/a.md",
)

_entries = st.sampled_from(
    [
        "Read",
        "mcp__srv__echo",
        "mcp__srv",
        "mcp__t__*",
        "mcp__a__c__*",
        "*",
        "mcp__*",
        "mcp__srv(echo)",
        "Bash(a, b",
        "Bash(git:*, mcp__x__y)",
        "mcp__srv__e\u200bcho",
        "x/y",
        "#",
        "- a",
        ": ",
        "[",
        "]",
        "'",
        "&x",
        "*x",
        "!!str",
        ">",
        "\xa0",
        "\u2028",
        "\t",
        "true",
        "5",
        "{",
        "}",
        ")",
    ]
)
_values = st.lists(_entries, max_size=5).flatmap(
    lambda entries: st.sampled_from([", ", " ", "\n  ", "\n", "\n  - ", ",", ";"]).map(
        lambda separator: separator.join(entries)
    )
)
_keys = st.sampled_from(
    [
        "tools",
        "tools",
        "disallowedTools",
        "Tools",
        "'tools'",
        "  tools",
        "model",
        "x",
        "<<",
        "? tools",
    ]
)
_separators = st.sampled_from([": ", ":", ":\n  - ", ": [", ": >\n  ", ": |\n  ", ' : "', ": # "])
_lines = st.builds(lambda key, by, value: f"{key}{by}{value}", _keys, _separators, _values)
# Mostly well-formed, so that much of it is granted: one odd entry or separator at a time.
_plain = st.lists(
    st.sampled_from(
        ["Read", "mcp__srv__echo", "mcp__srv", "mcp__a__c__*", "Bash(git:*, mcp__x__y)"]
    ),
    min_size=1,
    max_size=3,
)
_tools = st.builds(
    lambda entries, odd, by, form: form.format(by.join([*entries, *odd])),
    _plain,
    st.lists(_entries, max_size=1),
    st.sampled_from([", ", ", ", " ", ",", "\n  - ", "\n  "]),
    st.sampled_from(
        ["{}", "{}", "[{}]", "'{}'", '"{}"', ">\n  {}", "|\n  {}", "\n  - {}", "{} # mcp__no"]
    ),
).map("tools: {}".format)
_descriptions = st.sampled_from(["d", "d", "a: b", "'q'", "|\n  x", "x\n  tools: y", "<e>: *x"])
_headers = st.builds(
    lambda description, lines: "\n".join(["name: a", f"description: {description}", *lines]),
    _descriptions,
    st.lists(_lines, max_size=3)
    | st.tuples(_tools)
    | st.tuples(_tools, st.sampled_from(["model: x", "x: &x mcp__t", "disallowedTools: mcp__t"])),
)


class ClientReading:
    """The client's reading as the facts describe it, written independently of the gateway's."""

    def __init__(self, text: str) -> None:
        found = re.match(r"---[ \t]*\n(.*?)^---[ \t]*$", text, re.DOTALL | re.MULTILINE)
        self.loaded = False
        self.everything = False
        self.entries: set[str] = set()
        value = None if found is None else self.parse(found[1])
        if not isinstance(value, dict):
            return
        self.loaded = bool(value.get("name")) and bool(value.get("description"))
        tools = value.get("tools", "*")
        texts = tools if isinstance(tools, list) else [tools]
        for item in texts:
            if isinstance(item, str):
                self.entries.update(re.findall(r"(?:[^ \t\xa0,()]|\([^()]*\))+", item.strip()))
        self.everything = "*" in self.entries

    @staticmethod
    def parse(header: str) -> object:
        try:
            return yaml.load(header, Loader=yaml.CSafeLoader)
        except (yaml.YAMLError, ValueError, TypeError):
            pass
        quoted = re.sub(
            r"""^([\w-]+):[ \t]+((?!["'\[]).*(?:[{}\[\]*&#!|>%@`]|: ).*)$""",
            lambda line: f"{line[1]}: '{line[2].replace(chr(39), chr(39) * 2)}'",
            header,
            flags=re.MULTILINE,
        )
        try:
            return yaml.load(quoted, Loader=yaml.CSafeLoader)
        except (yaml.YAMLError, ValueError, TypeError):
            return None


@settings(max_examples=500)
@given(_headers)
def test_nothing_is_given_that_the_client_would_not_give(header: str) -> None:
    text = f"---\n{header}\n---\nYou are a.\n"
    definition = read_definition(text.encode("utf-8", "surrogatepass"), path="a.md")
    assert definition is not None
    if definition.status == "denied":
        assert not definition.inherits
        return
    client = ClientReading(text)
    assert client.loaded
    if definition.inherits:
        assert client.everything
    for pattern in definition.tools:
        if pattern.form in ("tool", "server"):
            assert client.everything or pattern.text in client.entries


@given(st.binary() | _headers.map(lambda header: f"---\n{header}\n---\n".encode()))
def test_reading_raises_nothing(data: bytes) -> None:
    for path in PATHS:
        definition = read_definition(data, path=path)
        if definition is not None:
            assert all(finding.line >= 1 for finding in definition.findings)
            denied = any(finding.severity == "error" for finding in definition.findings)
            assert denied == (definition.status == "denied")


@settings(max_examples=300)
@given(st.lists(_lines, max_size=2) | st.tuples(_tools))
def test_the_fallback_gives_no_more_than_the_strict_reading(lines: list[str]) -> None:
    rest = "\n".join(lines)
    strict = read_definition(f"---\nname: a\ndescription: d\n{rest}\n---\n".encode(), path="a.md")
    compat = read_definition(
        f"---\nname: a\ndescription: d: d\n{rest}\n---\n".encode(), path="a.md"
    )
    assert strict is not None
    assert compat is not None
    if strict.status == compat.status == "ok":
        assert not compat.inherits or strict.inherits
        given_strictly = {(pattern.form, pattern.text) for pattern in strict.tools}
        assert strict.inherits or {(p.form, p.text) for p in compat.tools} <= given_strictly
        assert {p.text for p in strict.disallowed} <= {p.text for p in compat.disallowed}


@given(st.lists(st.sampled_from(["a", "b", "c"]), max_size=5))
def test_exactly_the_doubled_names_are_denied(names: list[str]) -> None:
    files = [
        (f"{number}.md", f"---\nname: {name}\ndescription: d\ntools: mcp__srv\n---\n".encode())
        for number, name in enumerate(names)
    ]
    for definition in read_definitions(files):
        assert (definition.status == "denied") == (names.count(definition.name) > 1)
