"""Which files are agents, under which name, and what happens to names that are taken twice."""

import hashlib

import pytest

from gateway.agents import AgentDefinition, read_definition, read_definitions
from gateway.agents.frontmatter import MAX_HEADER_BYTES
from gateway.agents.reader import dialect_of


def read(text: str, path: str = "agents/x.md") -> AgentDefinition | None:
    return read_definition(text.encode(), path=path)


@pytest.mark.parametrize(
    "text",
    ["", "# Readme\n", "----\nname: a\n----\n", "---\rname: a\r---\r", "\n---\n\nA rule above.\n"],
)
def test_a_file_without_a_header_is_no_agent(text: str) -> None:
    assert read(text) is None


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("description: d\ntools: Read", "no-name"),
        ("name:\ndescription: d", "no-name"),
        ("name: 5\ndescription: d", "no-name"),
        ("name: a\ntools: Read", "no-description"),
        ("name: a\ndescription: ''", "no-description"),
        ("name: 'a:b'\ndescription: d", "unfit-name"),
        ("name: ' a'\ndescription: d", "unfit-name"),
        ("name: a\u200bb\ndescription: d", "unfit-name"),
        ("name: &x a\ndescription: d", "indirect-policy"),
        ("- a\n- b", "not-a-mapping"),
        ("", "not-a-mapping"),
        ("name: a\ndescription: d\n---x: y", "unclear-fence"),
        ("name: a\ndescription: d\ntoo\u200bls: Read", "near-miss-key"),
        ("name: a\ndescription: d\nt\u043e\u043els: Read", "near-miss-key"),
        ("name: a\ndescription: d\nmcp_servers: []", "near-miss-key"),
        ("name: a\ndescription: d\x00", "unsafe-yaml"),
        ("name: a\ndescription: d\ntools: # \u2028  mcp__srv", "unsafe-yaml"),
        ("name: a\ndescription: d\ntools: [Read]#x", "unclear-layout"),
        ("name: a\ndescription: d\ntools: [Read,\nmcp__srv]", "unclear-layout"),
        ("name: a\ndescription: d\n? tools\n: mcp__srv", "unclear-layout"),
        ("name: a\ndescription: d\ntools: >\n  mcp__srv,\n  ---\n  mcp__t", "unclear-layout"),
        ("{name: a, description: d, tools: mcp__srv}", "unclear-layout"),
    ],
)
def test_a_header_that_makes_no_safe_agent_is_denied(header: str, code: str) -> None:
    definition = read(f"---\n{header}\n---\n")
    assert definition is not None
    assert definition.status == "denied"
    assert code in {finding.code for finding in definition.findings}


@pytest.mark.parametrize(
    "header",
    [
        "tools:\n  [\n    Read,\n    mcp__srv__echo\n  ]",
        "tools: [\n  Read, # why\n  mcp__srv__echo\n]",
        "tools:\n# why\n- Read\n\n- mcp__srv__echo # and why",
        '"tools": "Read, mcp__srv__echo"',
        "tools : Read,\n  mcp__srv__echo",
        "\u540d: x\ntools: mcp__srv__echo",
    ],
)
def test_ordinary_layouts_are_read(header: str) -> None:
    definition = read(f"---\nname: a\ndescription: d\n{header}\nmodel: x\n---\n")
    assert definition is not None
    assert definition.status == "ok"
    assert [p.tool_id for p in definition.tools if p.form == "tool"] == ["mcp__srv__echo"]


@pytest.mark.parametrize(
    "header",
    [
        "tools: mcp__srv__echo\nnotes:\n  tools: Read",
        "tools: mcp__srv__echo\ntools: Read",
        'tools: "mcp__srv__echo"',
        "tools: mcp__srv__echo\n  mcp__t",
        "tools: mcp__srv__echo | x",
        "tools: Read: mcp__srv__echo",
        "tools: &x mcp__srv__echo",
        "tools:\tmcp__srv__echo",
        "'tools': mcp__srv__echo",
        "tools:\n  - mcp__srv__echo # x",
        "tools:\n  - {a: mcp__srv__echo}",
        "tools: mcp__srv__echo\ndisallowedTools: mcp__t # mcp__srv",
    ],
)
def test_what_is_not_plain_is_refused_when_the_header_is_not_yaml(header: str) -> None:
    definition = read(f"---\nname: a\ndescription: x: y\n{header}\n---\n")
    assert definition is not None
    assert definition.status == "denied"


def test_the_fallback_is_only_for_syntax_and_only_for_claude() -> None:
    doubled = read("---\nname: a\ndescription: x\nx: 1\nx: 2\ntools: mcp__srv\n---\n")
    copilot = read("---\ndescription: x: y\ntools: ['srv/*']\n---\n", ".github/agents/a.md")
    for definition in (doubled, copilot):
        assert definition is not None
        assert definition.status == "denied"


@pytest.mark.parametrize(
    "entry",
    ["context7", "github/search_code", "mcp_srv_echo", "MCP__srv__echo", "mcp__srv__", "mcp____x"],
)
def test_an_entry_of_no_meaning_warns_in_tools_and_denies_in_disallowed(entry: str) -> None:
    listed = read(f"---\nname: a\ndescription: d\ntools: {entry}\n---\n")
    refused = read(f"---\nname: a\ndescription: d\ndisallowedTools: {entry}\n---\n")
    assert listed is not None
    assert refused is not None
    assert [pattern.form for pattern in listed.tools] == ["unmatched"]
    assert (listed.status, refused.status) == ("ok", "denied")
    assert [(f.severity, f.line) for f in listed.findings] == [("warning", 4)]


def test_headers_are_bounded_and_must_be_utf_8() -> None:
    long = b"---\nname: a\ndescription: " + b"x" * MAX_HEADER_BYTES + b"\n---\n"
    wrong = b"---\nname: a\ndescription: \xff\n---\n"
    for data, code, line in ((long, "header-too-long", 1), (wrong, "not-utf-8", 3)):
        definition = read_definition(data, path="a.md")
        assert definition is not None
        assert [(f.code, f.line) for f in definition.findings] == [(code, line)]


def test_findings_and_patterns_carry_the_line_in_the_file() -> None:
    text = "---\nname: a\ndescription: d\ntools:\n  - Read\n  - mcp__srv__get_*\n---\n"
    definition = read(text, "sub/a.md")
    assert definition is not None
    assert definition.tools_line == 4
    assert [pattern.line for pattern in definition.tools] == [5, 6]
    (warning,) = [f for f in definition.findings if f.severity == "warning"]
    assert (warning.path, warning.line) == ("sub/a.md", 6)
    assert definition.digest == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    ("path", "dialect"),
    [
        (".claude/agents/a.md", "claude"),
        (".claude/agents/a.agent.md", "claude"),
        ("anywhere/a.md", "claude"),
        ("anywhere/a.agent.md", "copilot"),
        ("/p/.github/agents/sub/a.md", "copilot"),
        ("p\\.gemini\\agents\\a.md", "gemini"),
        (".opencode/agent/a.md", "opencode"),
        (".opencode/agents/a.md", "opencode"),
        (".github/agents.md", "claude"),
    ],
)
def test_the_path_chooses_the_dialect(path: str, dialect: str) -> None:
    assert dialect_of(path) == dialect


def test_a_name_that_is_taken_twice_denies_every_file_that_takes_it() -> None:
    one = b"---\nname: a\ndescription: d\ntools: mcp__srv\n---\n"
    other = b"---\nname: b\ndescription: d\n---\n"
    broken = b"---\nname: a\ndescription: [\n---\n"
    read = read_definitions([("1.md", one), ("2.md", other), ("3.md", one), ("r.md", b"# x\n")])
    assert [(d.path, d.status) for d in read] == [
        ("1.md", "denied"),
        ("2.md", "ok"),
        ("3.md", "denied"),
    ]
    assert "3.md" in read[0].findings[-1].message
    assert {d.status for d in read_definitions([("1.md", one), ("3.md", broken)])} == {"denied"}
