"""Which tools an agent file comes to: the contract's table, from the file's text to a decision."""

import pytest

from gateway.agents import AgentDefinition, read_definition, read_definitions
from gateway.policy.compile import Rules, compile_snapshot, meanings_of, resolution_findings
from gateway.policy.snapshot import Grants, UpstreamTraits
from tests.policy.servers import (
    EVERYTHING,
    SERVERS,
    agent,
    call,
    compiled,
    defined,
    file_of,
    operator,
    reach,
)

SRV = {f"srv:{tool}" for tool in SERVERS["srv"]}
ECHO = {"srv:echo"}
NONE: set[str] = set()
OPENCODE = ".opencode/agent/a.md"


def codes(definition: AgentDefinition, *servers: str) -> list[str]:
    return [finding.code for finding in resolution_findings([definition], servers or SERVERS)]


@pytest.mark.parametrize(
    ("row", "header", "expected"),
    [
        (1, "tools: Read, mcp__srv__echo", ECHO),
        (2, "tools: Read mcp__srv__echo", ECHO),
        (2, "tools:\n  - Read\n  - mcp__srv__echo", ECHO),
        (2, "tools: [Read, mcp__srv__echo]", ECHO),
        (2, "tools: >\n  Read,\n  mcp__srv__echo", ECHO),
        (3, "tools: mcp__srv", SRV),
        (3, "tools: mcp__srv__*", SRV),
        (4, "tools: mcp__srv__get_*", NONE),
        (4, "tools: mcp__*", NONE),
        (4, "tools: mcp__s*__echo", NONE),
        (5, "model: x", NONE),
        (6, "tools:", NONE),
        (6, "tools: []", NONE),
        (6, 'tools: ""', NONE),
        (6, "tools: ~", NONE),
        (7, 'tools: "*"', NONE),
        (7, "tools: Read, *", NONE),
        (8, "tools: Read", NONE),
        (9, "tools: Read\nmcpServers:\n  - srv: {command: x}", NONE),
        (10, "tools: Read, mcp__srv__echo\nmcpServers:\n  - srv: {command: x}", ECHO),
        (11, "tools: Read\nmcpServers: [srv]", NONE),
        (12, "tools: mcp__srv__*\ndisallowedTools: mcp__srv__echo", SRV - ECHO),
        (13, "tools: mcp__srv__echo\ndisallowedTools: mcp__srv__echo", NONE),
        (14, "tools: mcp__srv, mcp__a__c__*\ndisallowedTools: mcp__srv", {"a__c:echo"}),
        (14, "tools: mcp__srv, mcp__a__c__*\ndisallowedTools: mcp__srv__*", {"a__c:echo"}),
        (14, "tools: mcp__srv, mcp__a__c__*\ndisallowedTools: mcp__*", NONE),
        (15, "tools: mcp__srv\ndisallowedTools: mcp__srv__get_*", NONE),
        (15, 'tools: mcp__srv\ndisallowedTools: "*"', NONE),
        (16, "disallowed-tools: mcp__srv\ntools: mcp__srv", NONE),
        (16, "allowed-tools: mcp__srv", NONE),
        (16, "allowedTools: mcp__srv", NONE),
        (16, "Tools: mcp__srv", NONE),
        (17, "tools: mcp__SRV__echo, mcp__srv__ECHO, MCP__srv__echo", NONE),
        (18, "tools: mcp__srv__weird_name", {"srv:weird.name"}),
        (19, "tools: mcp__srv__weird.name", NONE),
        (20, "tools: mcp__my_dot_srv", {"my.dot srv:echo"}),
        (20, "tools: mcp__my_dot_srv__echo", {"my.dot srv:echo"}),
        (21, "tools: mcp__srv_two__echo", NONE),
        (21, "tools: mcp__srv-two__echo", {"srv-two:echo"}),
        (22, "tools: mcp__srv__a__b", {"srv:a__b"}),
        (23, "tools: mcp__a__c", NONE),
        (24, "tools: mcp__a__c__*", {"a__c:echo"}),
        (24, "tools: mcp__a__c__echo", {"a__c:echo"}),
        (25, "tools: mcp__a__*", NONE),
        (26, "tools: mcp__srv__echo(x)", NONE),
        (27, "tools: mcp__srv(echo), mcp__srv__*(x)", NONE),
        (28, "tools: Bash(git:*, npm:*), mcp__srv__echo", ECHO),
        (29, "tools: Bash(x, mcp__srv__echo)", NONE),
        (30, "tools: Bash(git, mcp__srv__echo", NONE),
        (31, "tools: mcp__srv__echo\ntools: Read", NONE),
        (31, "tools: Read\ntools: mcp__srv__echo", NONE),
        (32, "tools: Read # mcp__srv__echo", NONE),
        (42, "notes: |\n  x\n---\ntools: mcp__srv", NONE),
        (43, "x: &y mcp__srv__echo\ntools: *y", NONE),
        (44, "tools: {mcp__srv__echo: true}", NONE),
        (45, """tools: '["Read", "mcp__srv__echo"]'""", NONE),
        (46, "tools: |\n  Read\n  mcp__srv__echo", NONE),
        (47, "tools: Read,, mcp__srv__echo,", ECHO),
        (47, "tools: Read; mcp__srv__echo|Write", NONE),
        (48, "tools: mcp__srv__e\u200bcho", NONE),
        (48, "tools: mcp__srv__\u0435cho", NONE),
        (49, "tools: Read\xa0mcp__srv__echo", NONE),
    ],
)
def test_a_claude_agent_reaches_what_the_contract_says(
    row: int, header: str, expected: set[str]
) -> None:
    assert reach(compiled(defined(file_of(header)))) == expected


@pytest.mark.parametrize(
    ("row", "header", "expected"),
    [
        (33, "tools: Read # mcp__srv__echo", NONE),
        (34, "tools: Read, mcp__srv__echo", ECHO),
        (36, "model: x", NONE),
        (37, "tools:\n  - Read\n  - mcp__srv__echo", ECHO),
        (37, "tools: [Read, mcp__srv__echo]", ECHO),
        (38, "tools: >\n  mcp__srv__echo", NONE),
    ],
)
def test_a_header_that_is_no_yaml_reaches_what_the_contract_says(
    row: int, header: str, expected: set[str]
) -> None:
    definition = defined(file_of(header, description="a: b"))
    assert reach(compiled(definition)) == expected
    # Row 35: with CRLF the client does not load it at all.
    crlf = defined(file_of(header, description="a: b").replace(b"\n", b"\r\n"))
    assert reach(compiled(crlf, operators=operator("mcp__*"))) == NONE


def test_rows_40_and_41_the_fences_decide_whether_there_is_an_agent() -> None:
    plain = file_of("tools: mcp__srv__echo")
    for data in (b"\xef\xbb\xbf" + plain, plain.replace(b"\n", b"\r\n")):
        assert reach(compiled(defined(data))) == ECHO
    for data in (b"\n" + plain, plain.replace(b"\n---\n", b"\n...\n")):
        definition = read_definition(data, path="a.md")
        assert definition is None or reach(compiled(definition)) == NONE


def test_row_50_a_long_name_is_not_cut() -> None:
    name = "x" * 80
    snapshot = compiled(agent([f"mcp__srv__{name}"]))
    assert call(snapshot, "srv", name, [name]).allows
    assert not call(snapshot, "srv", name[:-1], [name[:-1]]).allows


@pytest.mark.parametrize("entry", ["mcp__q_x__echo", "mcp__q_x", "mcp__q_x__*"])
def test_row_51_two_upstreams_with_one_spelling_are_both_refused(entry: str) -> None:
    servers = {"q.x": ["echo"], "q_x": ["echo"]}
    definition = agent([entry])
    assert reach(compiled(definition, servers), servers) == NONE
    (finding,) = resolution_findings([definition], servers)
    assert (finding.code, finding.severity, finding.line) == ("ambiguous-entry", "error", 5)
    assert finding.path == definition.path
    assert "q.x, q_x" in finding.message
    assert reach(compiled(definition, ["q.x"]), {"q.x": ["echo"]}) == {"q.x:echo"}


@pytest.mark.parametrize(
    ("row", "path", "header", "expected"),
    [
        (52, ".github/agents/a.md", "tools: ['srv/echo']", ECHO),
        (52, ".github/agents/a.md", "tools: ['srv/*']", SRV),
        (52, ".github/agents/a.md", "tools: ['my.dot srv/*', 'srv-two/echo']", None),
        (52, ".github/agents/a.md", "tools: []", NONE),
        (52, ".github/agents/a.md", "model: x", NONE),
        (53, ".gemini/agents/a.md", "tools: ['mcp_srv_*']", SRV),
        (53, ".gemini/agents/a.md", "tools: ['mcp_srv_echo']", ECHO),
        (53, ".gemini/agents/a.md", "tools: ['mcp_srv_*']\nother: x", NONE),
        (54, OPENCODE, "tools: {'*': false, 'srv_echo': true}", ECHO),
        (54, OPENCODE, "tools: {'*': false, 'srv_*': true}", SRV),
    ],
)
def test_another_clients_agent_reaches_what_the_contract_says(
    row: int, path: str, header: str, expected: set[str] | None
) -> None:
    two = {"my.dot srv:echo", "srv-two:echo"}
    definition = defined(file_of(header), path=path)
    assert reach(compiled(definition)) == (two if expected is None else expected)


class TestInheriting:
    """Rows 5 and 7: everything, so nothing without the operator's ceiling."""

    @pytest.mark.parametrize("header", ["model: x", 'tools: "*"', "tools: Read, *"])
    def test_the_ceiling_is_what_it_reaches(self, header: str) -> None:
        definition = defined(file_of(header))
        for ceiling, expected in (
            (["mcp__*"], EVERYTHING),
            (["mcp__srv__echo", "mcp__srv-two"], {"srv:echo", "srv-two:echo"}),
            ([], NONE),
        ):
            assert reach(compiled(definition, operators=operator(*ceiling))) == expected

    def test_without_ceiling_the_refusal_says_what_to_set(self) -> None:
        definition = defined(file_of("model: x\ntools: '*'"))
        snapshot = compiled(definition, operators=operator(ceiling=False))
        decision = call(snapshot, "srv", "echo")
        assert (decision.effect, decision.rule) == ("deny", "agent file")
        assert (decision.file, decision.line) == (definition.path, 5)
        assert "set agents.a.max_tools in gateway.yaml" in decision.reason

    def test_disallowed_tools_stay_disallowed(self) -> None:
        definition = defined(file_of("disallowedTools: mcp__srv__echo, mcp__a__c__*"))
        snapshot = compiled(definition, operators=operator("mcp__*"))
        assert reach(snapshot) == EVERYTHING - {"srv:echo", "a__c:echo"}

    def test_row_54_what_opencode_refuses_is_cut_from_the_rest(self) -> None:
        definition = defined(file_of("tools: {'srv_*': false}"), path=OPENCODE)
        assert reach(compiled(definition)) == NONE
        snapshot = compiled(definition, operators=operator("mcp__*"))
        assert reach(snapshot) == EVERYTHING - SRV


class TestOpencodeRefusals:
    """OpenCode matches `srv_*` with `server_tool`, wherever the server's name ends."""

    SERVERS = ("srv", "srv_two", "srv.three", "srvs", "other")

    def test_a_refused_server_takes_those_with_longer_names_along(self) -> None:
        servers = {name: ["echo"] for name in self.SERVERS}
        definition = defined(file_of("tools: {'srv_*': false}"), path=OPENCODE)
        snapshot = compiled(definition, servers, operator("mcp__*"))
        assert reach(snapshot, servers) == {"srvs:echo", "other:echo"}
        assert codes(definition, *self.SERVERS) == []

    def test_another_dialect_refuses_only_the_server_that_it_names(self) -> None:
        servers = {name: ["echo"] for name in self.SERVERS}
        definition = agent([f"mcp__{name}" for name in ("srv", "srv_two")], ["mcp__srv"])
        assert reach(compiled(definition, servers), servers) == {"srv_two:echo"}

    def test_a_refused_tool_is_refused_however_its_name_is_split(self) -> None:
        servers = {"a": ["b_c", "c"], "a_b": ["c", "b_c"]}
        definition = defined(file_of("tools: {'a_b_c': false}"), path=OPENCODE)
        snapshot = compiled(definition, servers, operator("mcp__*"))
        assert reach(snapshot, servers) == {"a:c", "a_b:b_c"}

    def test_one_way_to_read_an_entry_is_enough_for_it_to_be_known(self) -> None:
        definition = defined(file_of("tools: {'srv_get_a': false}"), path=OPENCODE)
        assert codes(definition, "srv") == []
        assert codes(definition, "srv_get") == []
        assert codes(definition, "other") == ["unknown-upstream"]


class TestFindings:
    def test_an_entry_of_no_upstream_is_told_with_the_upstreams_there_are(self) -> None:
        definition = agent(["mcp__srv", "mcp__nowhere__echo"], ["mcp__elsewhere"])
        grant, refusal = resolution_findings([definition], ["srv", "t"])
        assert (grant.code, grant.severity, grant.line) == ("unknown-upstream", "warning", 6)
        assert "'mcp__nowhere__echo' names no configured upstream (there are: srv, t)" in (
            grant.message
        )
        assert "grants nothing" in grant.message
        assert (refusal.code, refusal.severity, refusal.line) == ("unknown-upstream", "warning", 8)
        assert "refuses nothing" in refusal.message
        assert refusal.path == definition.path

    def test_no_upstream_at_all_is_told_so(self) -> None:
        assert "(there are: none)" in resolution_findings([agent(["mcp__srv"])], [])[0].message

    def test_entries_with_one_owner_and_native_tools_are_no_finding(self) -> None:
        definition = agent(
            ["Read", "mcp__srv", "mcp__a__c__echo"], ["mcp__*", "Bash", "mcp__srv-two"]
        )
        assert codes(definition) == []

    def test_an_entry_that_two_could_own_grants_nothing_and_refuses_on_both(self) -> None:
        servers = {"a": ["c__x", "y"], "a__c": ["x", "y"]}
        granting = agent(["mcp__a__c__x"])
        assert reach(compiled(granting, servers), servers) == NONE
        assert codes(granting, *servers) == ["ambiguous-entry"]
        refusing = agent(["mcp__a", "mcp__a__c__*"], ["mcp__a__c__x"])
        assert reach(compiled(refusing, servers), servers) == {"a:y", "a__c:y"}
        (finding,) = resolution_findings([refusing], servers)
        assert (finding.code, finding.severity) == ("ambiguous-entry", "warning")
        assert "a, a__c" in finding.message


class TestGrantsBesideTools:
    def test_a_whole_server_brings_resources_and_prompts_and_a_listed_tool_does_not(self) -> None:
        upstreams = compiled(agent(["mcp__srv", "mcp__srv-two__echo"])).agents["a"].upstreams
        whole, listed = upstreams["srv"], upstreams["srv-two"]
        assert whole.resources is not None
        assert whole.resources.text == "mcp__srv"
        assert whole.prompts == whole.resources
        assert listed.resources is listed.prompts is None
        assert whole.sampling is None

    @pytest.mark.parametrize("cut", ["disallowed", "ceiling"])
    def test_a_server_that_is_cut_brings_nothing(self, cut: str) -> None:
        if cut == "disallowed":
            snapshot = compiled(agent(["mcp__srv"], ["mcp__srv"]))
        else:
            snapshot = compiled(agent(["mcp__srv"]), operators=operator("mcp__srv__echo"))
        here = snapshot.agents["a"].upstreams["srv"]
        assert here.resources is here.prompts is None

    def test_a_ceiling_with_the_whole_server_cuts_nothing(self) -> None:
        for text in ("mcp__srv", "mcp__*"):
            snapshot = compiled(agent(["mcp__srv"]), operators=operator(text))
            assert snapshot.agents["a"].upstreams["srv"].resources is not None

    @pytest.mark.parametrize("kind", ["resources", "prompts", "sampling"])
    def test_the_operator_grants_each_kind_by_itself(self, kind: str) -> None:
        entry = operator(ceiling=False, grants=Grants(**{kind: ("srv",)}))
        snapshot = compiled(agent(["mcp__srv__echo", "mcp__srv-two__echo"]), operators=entry)
        here, other = (snapshot.agents["a"].upstreams[name] for name in ("srv", "srv-two"))
        granted = {name: getattr(here, name) for name in ("resources", "prompts", "sampling")}
        assert {name for name, grant in granted.items() if grant is not None} == {kind}
        assert (granted[kind].text, granted[kind].line) == (f"grants.{kind}: srv", 9)
        assert granted[kind].file == "gateway.yaml"
        assert getattr(other, kind) is None


class TestSnapshot:
    def test_agents_without_a_name_are_left_out(self) -> None:
        nameless = defined(b"---\ndescription: d\ntools: mcp__srv\n---\n")
        assert nameless.name == ""
        assert compiled(nameless).agents == {}

    def test_two_files_of_one_name_deny_the_agent(self) -> None:
        data = file_of("tools: mcp__srv")
        definitions = read_definitions([("one.md", data), ("two.md", data)])
        snapshot = compile_snapshot(Rules(definitions), {"srv": UpstreamTraits()}, "d")
        assert reach(snapshot) == NONE
        assert "rename one" in call(snapshot, "srv", "echo").reason

    def test_it_keeps_the_digest_and_the_traits(self) -> None:
        snapshot = compiled(agent([]), passthrough=["srv"])
        assert snapshot.digest == "digest"
        assert {name for name, it in snapshot.upstreams.items() if it.passthrough_unknown} == {
            "srv"
        }

    def test_the_declared_ids_are_those_that_nothing_takes_away_again(self) -> None:
        listed = [
            "mcp__srv__echo",
            "mcp__srv__get_a",
            "mcp__srv__a__b",
            "mcp__srv-two",
            "mcp__x__y",
        ]
        definition = agent(listed, ["mcp__srv__get_a"])
        assert compiled(definition).agents["a"].declared_ids == ("mcp__srv__echo", "mcp__srv__a__b")
        snapshot = compiled(definition, operators=operator("mcp__srv__echo"))
        assert snapshot.agents["a"].declared_ids == ("mcp__srv__echo",)

    def test_of_two_entries_that_say_the_same_the_first_is_named(self) -> None:
        definition = agent(["mcp__srv", "mcp__srv__*", "mcp__srv-two__echo", "mcp__srv-two__echo"])
        snapshot = compiled(definition)
        assert call(snapshot, "srv", "echo").line == 5
        assert call(snapshot, "srv-two", "echo").line == 7


def test_a_tool_id_means_every_upstream_that_it_could_begin_with() -> None:
    upstreams = ["a", "a__c", "my.dot srv", "b"]
    assert meanings_of("mcp__a__c__x", upstreams) == (("a", "c__x"), ("a__c", "x"))
    assert meanings_of("mcp__my_dot_srv__x", upstreams) == (("my.dot srv", "x"),)
    assert meanings_of("mcp__b__", upstreams) == ()
    assert meanings_of("mcp__B__x", upstreams) == ()
