"""The contract of agent-formats, section 4: one test case for each row that concerns reading.

A row is written as what the file says and what the gateway understands by it; rows about which
upstream an entry belongs to assert the patterns that the policy compiler resolves.
"""

import pytest

from gateway.agents import AgentDefinition, read_definition

ECHO = ["tool mcp__srv__echo"]
DENIED = "denied"
INHERITS = "inherits"


def read(data: str | bytes, path: str = ".claude/agents/a.md") -> AgentDefinition:
    definition = read_definition(data.encode() if isinstance(data, str) else data, path=path)
    assert definition is not None
    return definition


def claude(header: str, *, description: str = "d") -> str:
    return f"---\nname: a\ndescription: {description}\n{header}\n---\nYou are a.\n"


def meaning(definition: AgentDefinition) -> str | list[str]:
    """What MCP tools the definition gives, in a form that a table can hold."""
    if definition.status == "denied":
        assert any(finding.severity == "error" for finding in definition.findings)
        assert not definition.inherits
        return DENIED
    assert all(finding.severity != "error" for finding in definition.findings)
    if definition.inherits:
        assert definition.tools == ()
        return INHERITS
    given = []
    for pattern in definition.tools:
        if pattern.form == "tool":
            given.append(f"tool {pattern.tool_id or f'{pattern.server}/{pattern.tool}'}")
        elif pattern.form in ("server", "every_server"):
            given.append(f"{pattern.form} {pattern.server}".strip())
    return given


def codes(definition: AgentDefinition) -> set[str]:
    return {finding.code for finding in definition.findings}


@pytest.mark.parametrize(
    ("row", "header", "expected", "code"),
    [
        (1, "tools: Read, mcp__srv__echo", ECHO, "native-tools"),
        (2, "tools: Read mcp__srv__echo", ECHO, None),
        (2, "tools:\n  - Read\n  - mcp__srv__echo", ECHO, None),
        (2, "tools:\n- Read, Write\n- mcp__srv__echo", ECHO, None),
        (2, "tools: [Read, mcp__srv__echo]", ECHO, None),
        (2, "tools: >\n  Read,\n  mcp__srv__echo", ECHO, None),
        (3, "tools: mcp__srv", ["server srv"], None),
        (3, "tools: mcp__srv__*", ["server srv"], None),
        (4, "tools: mcp__srv__get_*", [], "unsupported-glob"),
        (4, "tools: mcp__*", [], "unsupported-glob"),
        (4, "tools: mcp__s*__echo", [], "unsupported-glob"),
        (5, "model: x", INHERITS, "inherits"),
        (6, "tools:", [], None),
        (6, "tools: []", [], None),
        (6, 'tools: ""', [], None),
        (6, "tools: ~", [], None),
        (7, "tools: *", INHERITS, "inherits"),
        (7, 'tools: "*"', INHERITS, "inherits"),
        (7, 'tools: ["*"]', INHERITS, "inherits"),
        (7, "tools: Read, *", INHERITS, "inherits"),
        (8, "tools: Read", [], "native-only"),
        (9, "tools: Read\nmcpServers:\n  - srv: {command: x}", [], "inline-servers"),
        (
            10,
            "tools: Read, mcp__srv__echo\nmcpServers: {srv: {command: x}}",
            ECHO,
            "inline-servers",
        ),
        (11, "mcpServers: [srv]\ntools: Read", [], "native-only"),
        (15, "disallowedTools: mcp__srv__get_*", DENIED, "unsupported-glob"),
        (15, 'disallowedTools: "*"', DENIED, "unsupported-glob"),
        (16, "disallowed-tools: mcp__srv", DENIED, "near-miss-key"),
        (16, "allowed-tools: Read", DENIED, "near-miss-key"),
        (16, "allowedTools: Read", DENIED, "near-miss-key"),
        (16, "Tools: Read", DENIED, "near-miss-key"),
        (17, "tools: mcp__SRV__echo", ["tool mcp__SRV__echo"], None),
        (18, "tools: mcp__srv__weird_name", ["tool mcp__srv__weird_name"], None),
        (19, "tools: mcp__srv__weird.name", [], "illegal-name"),
        (20, "tools: mcp__my_dot_srv", ["server my_dot_srv"], None),
        (21, "tools: mcp__srv_two__echo", ["tool mcp__srv_two__echo"], None),
        (22, "tools: mcp__srv__a__b", ["tool mcp__srv__a__b"], None),
        (23, "tools: mcp__a__c", ["tool mcp__a__c"], None),
        (24, "tools: mcp__a__c__*", ["server a__c"], None),
        (25, "tools: mcp__a__*", ["server a"], None),
        (26, "tools: mcp__srv__echo(x)", [], "parenthesis-suffix"),
        (27, "tools: mcp__srv(echo)", [], "parenthesis-suffix"),
        (27, "tools: mcp__srv__*(x)", [], "parenthesis-suffix"),
        (28, "tools: Bash(git:*, npm:*), mcp__srv__echo", ECHO, "native-tools"),
        (29, "tools: Bash(x, mcp__srv__echo)", [], "native-only"),
        (30, "tools: Bash(git, mcp__srv__echo", DENIED, "unpaired-parenthesis"),
        (30, "tools: Bash(git)), mcp__srv__echo", DENIED, "unpaired-parenthesis"),
        (31, "tools: Read\ntools: mcp__srv__echo", DENIED, "unsafe-yaml"),
        (31, "tools: mcp__srv__echo\n'tools': Read", DENIED, "unsafe-yaml"),
        (32, "tools: Read # mcp__srv__echo", [], "native-only"),
        (43, "x: &x mcp__srv__echo\ntools: *x", DENIED, "indirect-policy"),
        (43, "x: &x {tools: mcp__srv__echo}\n<<: *x", DENIED, "indirect-policy"),
        (43, "tools: !!str mcp__srv__echo", DENIED, "indirect-policy"),
        (43, "tools: [&x mcp__srv__echo]", DENIED, "indirect-policy"),
        (43, "tools: &x mcp__srv__echo", DENIED, "indirect-policy"),
        (44, "tools: {mcp__srv__echo: true}", DENIED, "wrong-type"),
        (44, "tools: 5", DENIED, "wrong-type"),
        (44, "tools: true", DENIED, "wrong-type"),
        (44, "tools: [[mcp__srv__echo]]", DENIED, "wrong-type"),
        (45, """tools: '["Read", "mcp__srv__echo"]'""", [], "json-in-string"),
        (46, "tools: |\n  Read\n  mcp__srv__echo", [], "glued-entries"),
        (46, "tools: |\n  Read,\n  mcp__srv__echo", [], "glued-entries"),
        (47, "tools: mcp__srv__echo,, Read,", ECHO, None),
        (47, "tools: mcp__srv__echo;Read", [], "glued-entries"),
        (47, "tools: Read|mcp__srv__echo", [], "glued-entries"),
        (48, "tools: mcp__srv__e\u200bcho", DENIED, "hidden-character"),
        (48, "tools: mcp__srv__\u0435cho", DENIED, "look-alike-character"),
        (48, "tools: mcp__srv__\u200fecho", DENIED, "hidden-character"),
        (48, 'tools: "mcp__srv__e\\u200bcho"', DENIED, "look-alike-character"),
        (49, "tools: Read\u00a0mcp__srv__echo", DENIED, "look-alike-character"),
        (50, f"tools: mcp__srv__{'x' * 70}", [f"tool mcp__srv__{'x' * 70}"], None),
    ],
)
def test_claude_header(row: int, header: str, expected: str | list[str], code: str | None) -> None:
    definition = read(claude(header))
    assert meaning(definition) == expected, row
    assert code is None or code in codes(definition), row


@pytest.mark.parametrize(
    ("row", "header", "expected", "code"),
    [
        (33, "tools: Read # mcp__srv__echo", DENIED, "compat-unclear"),
        (34, "tools: Read, mcp__srv__echo", ECHO, "compat-yaml"),
        (36, "model: x", DENIED, "compat-no-tools"),
        (37, "tools:\n  - Read\n  - mcp__srv__echo", ECHO, "compat-yaml"),
        (37, "tools: [Read, mcp__srv__echo]", ECHO, "compat-yaml"),
        (38, "tools: >\n  Read", DENIED, "invalid-yaml"),
        (39, "tools: Read\nContext: the user asks\nassistant says so", DENIED, "invalid-yaml"),
    ],
)
def test_claude_header_that_is_not_yaml(
    row: int, header: str, expected: str | list[str], code: str
) -> None:
    definition = read(claude(header, description="a: b"))
    assert meaning(definition) == expected, row
    assert code in codes(definition), row


def test_row_12_and_13_keep_both_lists() -> None:
    definition = read(claude("tools: mcp__srv__*, mcp__t__x\ndisallowedTools: mcp__srv__echo"))
    assert meaning(definition) == ["server srv", "tool mcp__t__x"]
    assert [(p.form, p.tool_id) for p in definition.disallowed] == [("tool", "mcp__srv__echo")]


def test_row_14_disallowed_forms() -> None:
    definition = read(claude("disallowedTools: mcp__srv, mcp__t__*, mcp__*, Bash(rm:*)"))
    assert meaning(definition) == INHERITS
    assert [(p.form, p.server) for p in definition.disallowed] == [
        ("server", "srv"),
        ("server", "t"),
        ("every_server", ""),
        ("native", ""),
    ]


def test_row_35_the_fallback_takes_no_crlf() -> None:
    text = claude("tools: mcp__srv__echo", description="a: b")
    assert meaning(read(text)) == ECHO
    assert meaning(read(text.replace("\n", "\r\n"))) == DENIED


@pytest.mark.parametrize("change", ["bom", "crlf", "trailing blanks"])
def test_row_40_fences(change: str) -> None:
    text = claude("tools: mcp__srv__echo")
    if change == "bom":
        text = "\ufeff" + text
    elif change == "crlf":
        text = text.replace("\n", "\r\n")
    else:
        text = text.replace("---\n", "--- \t\n")
    assert meaning(read(text)) == ECHO


@pytest.mark.parametrize(
    "text",
    [
        "\n" + claude("tools: mcp__srv__echo"),
        "---\nname: a\ndescription: d\ntools: mcp__srv__echo\n",
        "---\nname: a\ndescription: d\ntools: mcp__srv__echo\n...\nYou are a.\n",
    ],
)
def test_row_41_no_proper_header(text: str) -> None:
    definition = read(text)
    assert meaning(definition) == DENIED
    assert definition.name == "a"


def test_row_42_a_fence_inside_a_text_ends_the_header() -> None:
    definition = read("---\nname: a\ndescription: |\n  b\n---\ntools: Read\n---\n")
    assert meaning(definition) == INHERITS
    (late,) = [f for f in definition.findings if f.code == "policy-after-fence"]
    assert (late.severity, late.line) == ("warning", 6)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("tools: ['srv/echo']", ["tool srv/echo"]),
        ("tools: ['srv/*']", ["server srv"]),
        ("tools: []", []),
        ("model: x", INHERITS),
        ("tools: ['*']", INHERITS),
        ("tools: [read, edit/editFiles]", []),
        ("tools: [read, '*']", []),
        ("tools: srv/echo, read", ["tool srv/echo"]),
        ("tools: [mcp__srv__echo]", []),
        ("tools: ['srv/get_*', 'a/b/c', '/x', 'srv/']", []),
        ("tools: {srv/echo: false}", DENIED),
        ("disallowedTools: [srv/echo]", DENIED),
        ("description: a: b", DENIED),
    ],
)
def test_row_52_copilot(header: str, expected: str | list[str]) -> None:
    definition = read(f"---\n{header}\n---\n", ".github/agents/reviewer.agent.md")
    assert (definition.dialect, definition.name) == ("copilot", "reviewer")
    assert meaning(definition) == expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("tools: ['mcp_srv_*']", ["server srv"]),
        ("tools: [mcp_srv_echo, read_file]", ["tool srv/echo"]),
        ("tools: ['mcp_*', read_file]", INHERITS),
        ("tools: ['*']", INHERITS),
        ("model: x", INHERITS),
        ("tools: []", []),
        ("tools: mcp_srv_echo", DENIED),
        ("tools: null", DENIED),
        ("tools: [mcp__srv__echo]", []),
        (f"tools: [mcp_srv_{'x' * 70}]", []),
        ("color: red", DENIED),
    ],
)
def test_row_50_and_53_gemini(header: str, expected: str | list[str]) -> None:
    definition = read(f"---\nname: a\ndescription: d\n{header}\n---\n", ".gemini/agents/a.md")
    assert definition.dialect == "gemini"
    assert meaning(definition) == expected


@pytest.mark.parametrize(
    ("header", "expected", "disallowed"),
    [
        ('tools: {"srv_*": false}', INHERITS, [("server", "srv", "")]),
        ("tools: {srv_echo: false}", INHERITS, [("tool", "srv", "echo")]),
        (
            "permission: {a_b_c: deny}",
            INHERITS,
            [("tool", "a", "b_c"), ("tool", "a_b", "c")],
        ),
        ('tools: {"*": false, srv_echo: true, write: true}', ["tool srv/echo"], []),
        ('tools: {srv_echo: true, "*": false}', [], []),
        ('permission: {"*": deny, "srv_*": allow}', ["server srv"], []),
        ('permission: {"*": allow, srv_echo: ask}', INHERITS, [("tool", "srv", "echo")]),
        ("permission: deny", [], []),
        ('tools: {"*": false, srv_a: true}\npermission: {"*": deny, srv_b: allow}', [], []),
        ('tools: {"*": false, srv_a: true}\npermission: {bash: ask}', ["tool srv/a"], None),
        ('permission: {bash: {"git *": allow, "*": ask}}', INHERITS, []),
        ('tools: {"*_echo": false}', DENIED, None),
        ('tools: {"my_srv_*": false}', DENIED, None),
        ("tools: [srv_echo]", DENIED, None),
        ("tools: {srv_echo: 1}", DENIED, None),
        ("permission: {srv_echo: true}", DENIED, None),
        ("permissions: {srv_echo: deny}", DENIED, None),
    ],
)
def test_row_54_opencode(
    header: str, expected: str | list[str], disallowed: list[tuple[str, str, str]] | None
) -> None:
    definition = read(f"---\ndescription: d\n{header}\n---\n", ".opencode/agent/helper.md")
    assert (definition.dialect, definition.name) == ("opencode", "helper")
    assert meaning(definition) == expected
    if disallowed is not None:
        assert [(p.form, p.server, p.tool) for p in definition.disallowed] == disallowed


def test_row_55_a_file_that_became_invalid_is_denied_under_its_name() -> None:
    definition = read(claude("tools: [mcp__srv__echo"))
    assert meaning(definition) == DENIED
    assert definition.name == "a"
    assert definition.tools == ()
