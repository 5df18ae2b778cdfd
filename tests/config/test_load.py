"""Loading a configuration: what is found, what is refused, and how that is told."""

import json
import os
from pathlib import Path

import pytest

from gateway.config.problems import ConfigurationError
from gateway.config.settings import HttpEntry, Settings, SseEntry, StdioEntry
from gateway.errors import UserError
from gateway.policy.approval import Terms

from .conftest import Project

SECRET = "hunter2-planted-secret"

FULL = """\
    agents_from: .claude/agents
    default_agent: backend
    include: .mcp.json
    upstreams:
      supabase:
        command: npx
        args: [-y, "@supabase/mcp", --token, "${TOKEN}"]
        env: {MODE: "1"}
        inherit_env: [NPM_TOKEN]
        cwd: sub
        start_timeout_s: 5
        call_timeout_s: 1.5
      web:
        type: http
        url: https://example.org/mcp
        headers: {Authorization: "Bearer ${keyring:web/me}"}
        shared: true
        passthrough_unknown: true
        max_result_bytes: 4096
    agents:
      backend:
        max_tools: [mcp__supabase__execute_sql, mcp__web, mcp__web__*]
        grants: {resources: [web], prompts: [web], sampling: [supabase]}
    audit:
      directory: log
      durability: power
      arguments: none
      arguments_for: {mcp__web__fetch: full}
    http: {host: 0.0.0.0, port: 0, allowed_hosts: ["gw.example:8750"], allowed_origins: ["https://a.example"]}
    limits: {max_message_bytes: 100000, max_tools: 10}
    approvals: {by: [client], timeout_s: 60, remember: [call, 5m], max_held: 7}
    """


def told(project: Project, path: Path | None = None) -> list[str]:
    with pytest.raises(UserError) as caught:
        project.load(path)
    return str(caught.value).split("\n")


class TestAWholeConfiguration:
    @pytest.fixture
    def settings(self, project: Project) -> Settings:
        project.config(FULL)
        project.agent("backend", "mcp__supabase__execute_sql, mcp__my_db")
        project.write(".mcp.json", '{"mcpServers": {\n"my db": {"command": "db"}}}')
        return project.load().settings

    def test_upstreams_have_every_field(self, settings: Settings) -> None:
        assert settings.upstreams == {
            "supabase": StdioEntry(
                name="supabase",
                path="gateway.yaml",
                line=5,
                command="npx",
                args=("-y", "@supabase/mcp", "--token", "${TOKEN}"),
                env={"MODE": "1"},
                inherit_env=("NPM_TOKEN",),
                cwd="sub",
                start_timeout_s=5.0,
                call_timeout_s=1.5,
            ),
            "web": HttpEntry(
                name="web",
                path="gateway.yaml",
                line=13,
                url="https://example.org/mcp",
                headers={"Authorization": "Bearer ${keyring:web/me}"},
                shared=True,
                passthrough_unknown=True,
                max_result_bytes=4096,
            ),
            "my db": StdioEntry(name="my db", path=".mcp.json", line=2, command="db"),
        }

    def test_agents_have_their_ceiling_and_grants(self, settings: Settings) -> None:
        entry = settings.agents["backend"]
        assert (entry.path, entry.line) == ("gateway.yaml", 21)
        assert entry.max_tools is not None
        assert [(p.form, p.tool_id, p.server, p.line) for p in entry.max_tools] == [
            ("tool", "mcp__supabase__execute_sql", "", 22),
            ("server", "", "web", 22),
            ("server", "", "web", 22),
        ]
        assert entry.grants.resources == ("web",)
        assert entry.grants.prompts == ("web",)
        assert entry.grants.sampling == ("supabase",)

    def test_the_rest_is_as_written(self, settings: Settings) -> None:
        assert settings.default_agent == "backend"
        assert settings.audit.directory == str(Path(settings.root, "log"))
        assert settings.audit.durability == "power"
        assert settings.audit.arguments == "none"
        assert settings.audit.arguments_for == {"mcp__web__fetch": "full"}
        assert settings.http.host == "0.0.0.0"
        assert settings.http.port == 0
        assert settings.http.allowed_hosts == ("gw.example:8750",)
        assert settings.http.allowed_origins == ("https://a.example",)
        assert settings.limits.max_message_bytes == 100_000
        assert settings.limits.max_tools == 10
        assert settings.approvals == Terms(
            by=("client",), timeout_s=60, remember=("call", "5m"), max_held=7
        )
        assert settings.path == "gateway.yaml"

    def test_the_snapshot_is_compiled_from_it(self, project: Project) -> None:
        project.config("upstreams: {web: {command: web, passthrough_unknown: true}}")
        project.agent("backend", "mcp__web__fetch")
        loaded = project.load()
        assert loaded.snapshot.digest == loaded.digest == loaded.settings.digest
        assert loaded.snapshot.upstreams["web"].passthrough_unknown
        assert loaded.snapshot.agents["backend"].declared_ids == ("mcp__web__fetch",)

    def test_defaults_hold_for_what_is_left_out(self, project: Project) -> None:
        project.config("upstreams: {web: {url: 'http://localhost/mcp'}}")
        settings = project.load().settings
        assert settings.upstreams["web"] == HttpEntry(
            name="web", path="gateway.yaml", line=1, url="http://localhost/mcp"
        )
        assert settings == Settings(
            root=str(project.root),
            path="gateway.yaml",
            digest=settings.digest,
            lines={"upstreams": 1},
            upstreams=settings.upstreams,
        )


UPSTREAM = "upstreams:\n  web:\n    command: web\n"

# YAML, the line, the beginning of the sentence
MISTAKES: list[tuple[str, int, str]] = [
    ("", 1, "The file has no keys; add upstreams, or include: .mcp.json."),
    ("- a", 1, "The file has no keys; add upstreams, or include: .mcp.json."),
    ("upstreams: {}\nupstreams: {}", 2, "The key 'upstreams' is given twice"),
    ('a: "x', 1, "Not valid YAML"),
    ("upstreams: 1", 1, "upstreams must be a mapping of upstream names"),
    ("agents: [a]", 1, "agents must be a mapping of agent names"),
    ("audit: 3", 1, "audit must be a mapping"),
    ("upstream: {}", 1, "upstream is not a known key; did you mean 'upstreams'?"),
    ("mcpServers: {}", 1, "mcpServers is not a known key; did you mean 'upstreams'?"),
    ("zzz: {}", 1, "zzz is not a known key; known are agents_from, "),
    (
        UPSTREAM + "    shred: true",
        4,
        "upstreams.web.shred is not a known key; did you mean 'shared'?",
    ),
    (UPSTREAM + "    url2: x", 4, "upstreams.web.url2 is not a known key; known are "),
    ("http:\n  prt: 1", 2, "http.prt is not a known key; did you mean 'port'?"),
    ("audit:\n  argument: full", 2, "audit.argument is not a known key; did you mean 'arguments'?"),
    ("upstreams:\n  web: npx", 2, "upstreams.web must be a mapping"),
    ("upstreams:\n  web: {}", 2, "upstreams.web needs a command (a process) or a url"),
    ("upstreams:\n  web: {command: a, url: b}", 2, "upstreams.web has both command and url"),
    ("upstreams:\n  web: {type: stdio, url: b}", 2, "upstreams.web has a url; write type: http."),
    ("upstreams:\n  web: {type: http}", 2, "upstreams.web needs the key 'url'."),
    ("upstreams:\n  web: {type: stdio, args: []}", 2, "upstreams.web needs a command"),
    ("upstreams:\n  web: {type: sse}", 2, "upstreams.web needs the key 'url'."),
    (
        "upstreams:\n  web:\n    type: ws\n    url: http://h",
        3,
        "upstreams.web.type must be 'stdio', 'http' or 'sse'.",
    ),
    (
        "upstreams:\n  web:\n    type: [1]\n    url: http://h",
        3,
        "upstreams.web.type must be 'stdio', 'http' or 'sse'.",
    ),
    ("upstreams:\n  'my web': {command: a}", 2, "'my web' cannot be the name of an upstream"),
    ("upstreams:\n  ..: {command: a}", 2, "'..' cannot be the name of an upstream"),
    ("upstreams:\n  'a/b': {command: a}", 2, "'a/b' cannot be the name of an upstream"),
    (f"upstreams:\n  {'a' * 65}: {{command: a}}", 2, "'aaaa"),
    (
        "upstreams:\n  w.b: {command: a}\n  w_b: {command: a}",
        3,
        "The upstreams 'w_b' and 'w.b' (gateway.yaml:2) have one name for the client, "
        "'w_b'; rename one.",
    ),
    ("upstreams:\n  web: {command: ''}", 2, "upstreams.web.command must not be empty"),
    ("upstreams:\n  web: {command: 1}", 2, "upstreams.web.command must be text; put it in quotes."),
    (
        UPSTREAM + "    args:\n      - a\n      - 8080",
        6,
        "upstreams.web.args[1] must be text; put it in quotes.",
    ),
    (UPSTREAM + "    args: --port 1", 4, "upstreams.web.args must be a list."),
    (
        UPSTREAM + "    env:\n      A: x\n      PORT: 8080",
        6,
        "upstreams.web.env.PORT must be text; put it in quotes.",
    ),
    (
        UPSTREAM + "    env:\n      A=B: x",
        5,
        "upstreams.web.env.A=B is no name of an environment variable.",
    ),
    (
        UPSTREAM + "    inherit_env: ['']",
        4,
        "upstreams.web.inherit_env[0] is no name of an environment variable.",
    ),
    (UPSTREAM + "    shared: 'yes'", 4, "upstreams.web.shared must be true or false."),
    (
        UPSTREAM + "    start_timeout_s: 0",
        4,
        "upstreams.web.start_timeout_s must be greater than 0",
    ),
    (UPSTREAM + "    call_timeout_s: .inf", 4, "upstreams.web.call_timeout_s must be "),
    (UPSTREAM + "    call_timeout_s: .nan", 4, "upstreams.web.call_timeout_s must be "),
    (UPSTREAM + "    call_timeout_s: '3'", 4, "upstreams.web.call_timeout_s must be a number."),
    (
        UPSTREAM + "    max_result_bytes: 1.5",
        4,
        "upstreams.web.max_result_bytes must be a whole number.",
    ),
    (
        UPSTREAM + "    max_result_bytes: 10",
        4,
        "upstreams.web.max_result_bytes must be at least 1024.",
    ),
    (
        "upstreams:\n  web:\n    command: gateway\n    args: [connect, web]",
        3,
        "upstreams.web starts the gateway itself",
    ),
    (
        "upstreams:\n  web:\n    command: python3\n    args: [-m, gateway]",
        3,
        "upstreams.web starts the gateway itself",
    ),
    ("upstreams:\n  web:\n    url: ftp://h/", 3, "upstreams.web.url is not a valid URL; only http"),
    (
        "upstreams:\n  web:\n    url: http://me:pw@h/",
        3,
        "upstreams.web.url carries a user name or password",
    ),
    (
        "upstreams:\n  web:\n    url: http://h/\n    headers:\n      Host: x",
        5,
        "upstreams.web.headers.Host is a header that the gateway sets itself",
    ),
    (
        "upstreams:\n  web:\n    url: http://h/\n    headers:\n      A: x\n      a: y",
        6,
        "upstreams.web.headers.a is given twice",
    ),
    (
        "upstreams:\n  web:\n    url: http://h/\n    headers:\n      'A b': x",
        5,
        "upstreams.web.headers.A b is no name of an HTTP header.",
    ),
    (
        'upstreams:\n  web:\n    url: http://h/\n    headers:\n      A: "x\\r\\nB: y"',
        5,
        "upstreams.web.headers.A is a text that no HTTP header may carry",
    ),
    (UPSTREAM + "    args: ['${A']", 4, "upstreams.web.args[0]: a ${ has no closing brace"),
    (UPSTREAM + "    env: {A: '${vault:x}'}", 4, "upstreams.web.env.A: a ${...} is no reference"),
    (
        UPSTREAM + "    cwd: ${A:-${B}}",
        4,
        "upstreams.web.cwd: a reference stands inside another one",
    ),
    ("include: nowhere.json", 1, "nowhere.json: Cannot be read: No such file or directory."),
    ("include: [1]", 1, "include[0] must be text"),
    ("agents_from:\n  - nowhere", 2, "nowhere: Cannot be read: No such file or directory."),
    (
        "default_agent: nobody",
        1,
        "default_agent names an agent that no file defines; known are backend.",
    ),
    (
        "default_agent: backand",
        1,
        "default_agent names an agent that no file defines; did you mean 'backend'?",
    ),
    ("default_agent: [backend]", 1, "default_agent must be text"),
    (
        "agents:\n  backand: {}",
        2,
        "agents.backand names an agent that no file defines; did you mean 'backend'?",
    ),
    (
        "agents:\n  backend:\n    grants:\n      resources: [wob]",
        4,
        "agents.backend.grants.resources[0] names an upstream that is not configured; "
        "there are none.",
    ),
    (
        UPSTREAM + "agents:\n  backend:\n    grants:\n      sampling:\n        - wob",
        8,
        "agents.backend.grants.sampling[0] names an upstream that is not configured; did "
        "you mean 'web'?",
    ),
    (
        UPSTREAM + "agents:\n  backend:\n    grant: {}",
        6,
        "agents.backend.grant is not a known key; did you mean 'grants'?",
    ),
    (
        UPSTREAM + "agents:\n  backend:\n    grants:\n      resource: [web]",
        7,
        "agents.backend.grants.resource is not a known key; did you mean 'resources'?",
    ),
    (
        UPSTREAM + "agents:\n  backend:\n    tools: []",
        6,
        "agents.backend.tools is not a known key; did you mean 'max_tools'?",
    ),
    (
        UPSTREAM + "agents:\n  backend:\n    max_tools: [Read]",
        6,
        "agents.backend.max_tools[0] must be written mcp__UPSTREAM__TOOL",
    ),
    (
        UPSTREAM + "agents:\n  backend:\n    max_tools: [mcp__web__get_*]",
        6,
        "agents.backend.max_tools[0] must be written mcp__UPSTREAM__TOOL",
    ),
    (
        UPSTREAM + "agents:\n  backend:\n    max_tools: [mcp__wob__x]",
        6,
        "agents.backend.max_tools[0] names no configured upstream; known are web.",
    ),
    (
        "upstreams:\n  a: {command: a}\n  a__b: {command: b}\n"
        "agents:\n  backend:\n    max_tools: [mcp__a__b__c]",
        6,
        "agents.backend.max_tools[0] could mean a or a__b",
    ),
    (
        "audit:\n  arguments: everything",
        2,
        "audit.arguments must be 'none', 'shape', 'redacted' or 'full'.",
    ),
    ("audit:\n  durability: maybe", 2, "audit.durability must be 'process' or 'power'."),
    (
        UPSTREAM + "audit:\n  arguments_for:\n    mcp__wob__x: none",
        6,
        "audit.arguments_for.mcp__wob__x is no tool of a configured upstream",
    ),
    (
        UPSTREAM + "audit:\n  arguments_for:\n    mcp__web__: none",
        6,
        "audit.arguments_for.mcp__web__ is no tool of a configured upstream",
    ),
    ("http:\n  port: 65536", 2, "http.port must be at most 65535."),
    ("http:\n  port: -1", 2, "http.port must be at least 0."),
    ("http:\n  port: '80'", 2, "http.port must be a whole number."),
    ("http:\n  port: true", 2, "http.port must be a whole number."),
    ("http:\n  allowed_hosts: ['*']", 2, "http.allowed_hosts[0] must be a host"),
    (
        "http:\n  allowed_origins: ['https://a/path']",
        2,
        "http.allowed_origins[0] must be an origin",
    ),
    ("limits:\n  max_tools: 0", 2, "limits.max_tools must be at least 1."),
    ("approvals:\n  by: [mail]", 2, "approvals.by[0] must be"),
    ("approvals:\n  by: client", 2, "approvals.by must be a list."),
    ("approvals:\n  timeout_s: 0", 2, "approvals.timeout_s must be greater than 0"),
    ("approvals:\n  remember: [1441m]", 2, "approvals.remember[0] must be call, session, or"),
    ("approvals:\n  remember: [0m]", 2, "approvals.remember[0] must be call, session, or"),
    ("approvals:\n  max_held: 0", 2, "approvals.max_held must be at least 1."),
]


class TestMistakes:
    @pytest.mark.parametrize(
        ("text", "line", "sentence"), MISTAKES, ids=[sentence for _, _, sentence in MISTAKES]
    )
    def test_each_is_one_sentence_with_file_line_and_key(
        self, project: Project, text: str, line: int, sentence: str
    ) -> None:
        project.agent("backend", "mcp__web__fetch")
        project.config(text)
        lines = told(project)
        assert len(lines) == 1
        assert lines[0].startswith(f"gateway.yaml:{line}: {sentence}")
        assert lines[0].endswith((".", "?"))

    def test_all_are_told_at_once_in_the_order_of_files_and_lines(self, project: Project) -> None:
        project.agent("backend", "mcp__web__fetch")
        project.config(
            """\
            http: {port: 70000, hots: x}
            agents:
              nobody: {grants: {prompts: [nothing]}}
            upstreams:
              web: {command: web, args: [1, 2]}
              db: {command: gateway}
            include: [.mcp.json, nowhere.json]
            """
        )
        project.write(".mcp.json", '{"mcpServers": {\n"web": {"command": "x"},\n"b/c": {}}}')
        with pytest.raises(ConfigurationError) as caught:
            project.load()
        assert [(problem.path, problem.line) for problem in caught.value.problems] == [
            (".mcp.json", 2),
            (".mcp.json", 3),
            ("gateway.yaml", 1),
            ("gateway.yaml", 1),
            ("gateway.yaml", 3),
            ("gateway.yaml", 5),
            ("gateway.yaml", 5),
            ("gateway.yaml", 6),
            ("gateway.yaml", 7),
        ]

    def test_a_broken_entry_is_not_told_again_where_it_is_named(self, project: Project) -> None:
        project.agent("backend", "mcp__web__fetch")
        project.config(
            "upstreams: {web: {command: 1}}\nagents: {backend: {grants: {prompts: [web]}}}"
        )
        assert len(told(project)) == 1

    def test_values_are_not_quoted(self, project: Project) -> None:
        project.config(
            f"""\
            upstreams:
              a: {{command: ["{SECRET}"], env: {{A: ["{SECRET}"]}}, shared: "{SECRET}"}}
              b: {{url: "http://me:{SECRET}@h/", headers: {{A: "{SECRET}\\n", B: ["{SECRET}"]}}}}
              c: {{url: "{SECRET}"}}
              d: {{command: x, args: ["${{{SECRET}"], env: {{A: "${{x:{SECRET}}}"}}}}
            http: {{port: "{SECRET}", host: ["{SECRET}"]}}
            audit: {{arguments: "{SECRET}"}}
            """
        )
        lines = told(project)
        assert len(lines) >= 10
        assert SECRET not in "\n".join(lines)

    def test_a_file_that_is_not_utf8_is_told_with_its_line(self, project: Project) -> None:
        project.config("").write_bytes(b"upstreams:\n  # caf\xe9\n  web: {}\n")
        assert told(project) == ["gateway.yaml:2: The file is not UTF-8 here; save it as UTF-8."]

    def test_a_file_that_is_no_file_is_refused(self, project: Project) -> None:
        os.mkfifo(project.root / "gateway.yaml")
        assert told(project) == ["gateway.yaml: Cannot be read: Not a regular file."]

    def test_a_huge_file_is_refused(self, project: Project) -> None:
        project.config("#" * 5_000_000)
        assert "larger than" in told(project)[0]


class TestTheClientsOwnFile:
    def test_keys_of_the_client_are_warned_of_and_left_out(self, project: Project) -> None:
        project.config("include: .mcp.json")
        project.write(
            ".mcp.json",
            '{"mcpServers": {"web": {"command": "web",\n"timeout": 3}}, "other": {}}',
        )
        loaded = project.load()
        assert [(f.code, f.path, f.line) for f in loaded.findings] == [
            ("ignored-key", ".mcp.json", 2)
        ]

    def test_it_is_read_as_json_with_tabs_and_without_trailing_commas(
        self, project: Project
    ) -> None:
        project.config("include: .mcp.json")
        project.write(".mcp.json", '{\n\t"mcpServers": {\n\t\t"web": {"command": "web"}\n\t}\n}')
        assert list(project.load().settings.upstreams) == ["web"]
        project.write(".mcp.json", '{\n\t"mcpServers": {\n\t\t"web": {"command": "web"},\n\t}\n}')
        # Which of the two depends on Python: the comma, or what should have followed it.
        assert told(project)[0].startswith((".mcp.json:3: Not valid", ".mcp.json:4: Not valid"))

    def test_servers_of_the_older_transport_are_taken(self, project: Project) -> None:
        project.config("include: .mcp.json\nupstreams: {own: {type: sse, url: 'http://h/sse'}}")
        servers = {"web": {"type": "sse", "url": "https://h/sse", "headers": {"A": "b"}}}
        project.write(".mcp.json", json.dumps({"mcpServers": servers}))
        upstreams = project.load().settings.upstreams
        assert upstreams["own"] == SseEntry(
            name="own", path="gateway.yaml", line=2, url="http://h/sse"
        )
        assert upstreams["web"] == SseEntry(
            name="web", path=".mcp.json", line=1, url="https://h/sse", headers={"A": "b"}
        )
        # The start-up cache brings the same back.
        assert project.load().settings.upstreams == upstreams
        project.write(".mcp.json", json.dumps({"mcpServers": {"web": {"type": "sse", "url": "x"}}}))
        assert "url is not a valid URL" in told(project)[0]

    def test_without_servers_the_file_is_refused(self, project: Project) -> None:
        project.config("include: .mcp.json")
        project.write(".mcp.json", "{}")
        assert told(project) == [
            ".mcp.json:1: The file has no key 'mcpServers' with upstreams under it."
        ]

    def test_two_names_that_the_client_takes_for_one_are_refused(self, project: Project) -> None:
        project.config("include: .mcp.json")
        servers = {"a b": {"command": "x"}, "a_b": {"command": "y"}}
        project.write(".mcp.json", json.dumps({"mcpServers": servers}, indent=1))
        assert told(project) == [
            ".mcp.json:6: The upstreams 'a_b' and 'a b' (.mcp.json:3) have one name for the "
            "client, 'a_b'; rename one."
        ]

    def test_an_entry_that_starts_the_gateway_is_refused(self, project: Project) -> None:
        servers = {"web": {"command": "uvx", "args": ["mcp-tool-gateway", "connect", "web"]}}
        project.write(".mcp.json", json.dumps({"mcpServers": servers}))
        assert "starts the gateway itself" in told(project)[0]

    @pytest.mark.parametrize("reference", ["file:/etc/passwd", "exec:id", "keyring:a/b"])
    def test_it_may_refer_to_variables_only(self, project: Project, reference: str) -> None:
        text = f"${{{reference}}}"
        servers = {"web": {"type": "http", "url": "http://h/", "headers": {"A": text}}}
        project.write(".mcp.json", json.dumps({"mcpServers": servers}))
        assert "which only gateway.yaml may" in told(project)[0]
        project.write(".mcp.json", json.dumps({"mcpServers": servers}).replace(text, "${A}"))
        project.load()


class TestFinding:
    def test_upward_to_the_root_of_the_repository(self, project: Project) -> None:
        project.config("upstreams: {web: {command: web}}")
        below = project.root / "a" / "b"
        below.mkdir(parents=True)
        loaded = project.load(cwd=below)
        assert list(loaded.settings.upstreams) == ["web"]
        assert loaded.settings.root == str(project.root)

    def test_not_above_the_repository(self, project: Project, tmp_path: Path) -> None:
        (tmp_path / "gateway.yaml").write_text("upstreams: {web: {command: web}}")
        [line] = told(project)
        assert line.startswith(f"No configuration: looked in {project.root} for gateway.yaml, ")
        assert "--config" in line

    def test_outside_of_a_repository_only_here(self, tmp_path: Path, project: Project) -> None:
        (tmp_path / "gateway.yaml").write_text("upstreams: {web: {command: web}}")
        below = tmp_path / "below"
        below.mkdir()
        with pytest.raises(UserError, match="No configuration"):
            project.load(cwd=below)
        assert project.load(cwd=tmp_path).settings.root == str(tmp_path)

    def test_the_variable_comes_before_the_project_and_the_argument_before_both(
        self, project: Project, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        project.config("upstreams: {here: {command: a}}")
        one = project.write("one/gw.yaml", "upstreams: {one: {command: a}}")
        two = project.write("two/gw.yaml", "upstreams: {two: {command: a}}")
        monkeypatch.setenv("MCP_TOOL_GATEWAY_CONFIG", str(one))
        assert list(project.load().settings.upstreams) == ["one"]
        assert list(project.load(two).settings.upstreams) == ["two"]
        assert list(project.load(Path("two/gw.yaml")).settings.upstreams) == ["two"]

    def test_a_named_file_that_is_missing_is_told(self, project: Project) -> None:
        assert told(project, Path("gw.yaml")) == [
            "gw.yaml: Cannot be read: No such file or directory."
        ]

    def test_errors_name_files_as_seen_from_the_working_directory(self, project: Project) -> None:
        project.write("sub/gateway.yaml", "zzz: 1")
        assert told(project, Path("sub/gateway.yaml"))[0].startswith("sub/gateway.yaml:1: ")
        (project.root / "other").mkdir()
        with pytest.raises(UserError) as caught:
            project.load(Path("../sub/gateway.yaml"), cwd=project.root / "other")
        assert str(caught.value).startswith(f"{project.root}/sub/gateway.yaml:1: ")

    def test_without_gateway_yaml_the_project_speaks(self, project: Project) -> None:
        project.write(".mcp.json", '{"mcpServers": {"web": {"command": "web"}}}')
        project.agent("backend", "mcp__web__fetch")
        loaded = project.load()
        assert list(loaded.settings.upstreams) == ["web"]
        assert loaded.settings.path == ""
        assert [definition.name for definition in loaded.definitions] == ["backend"]
        assert loaded.notes == (
            f"No gateway.yaml; taking what the project has in {project.root}.",
            "Upstreams: 1 (web).",
            "Agent files: 1 (in .claude/agents).",
        )

    def test_agents_alone_are_enough(self, project: Project) -> None:
        project.agent("backend", "mcp__web__fetch")
        loaded = project.load()
        assert loaded.settings.upstreams == {}
        assert "no .mcp.json" in loaded.notes[0]


class TestAgentFiles:
    def test_the_usual_directories_are_read_through(self, project: Project) -> None:
        project.config("upstreams: {web: {command: web}}")
        project.agent("one", "mcp__web__a")
        project.agent("deep/er", "mcp__web__a")
        project.write(".claude/agents/notes.txt", "no agent")
        project.write(
            ".github/agents/two.agent.md", "---\nname: two\ntools: ['web/a']\n---\nWork.\n"
        )
        loaded = project.load()
        assert {definition.path for definition in loaded.definitions} == {
            ".claude/agents/one.md",
            ".claude/agents/deep/er.md",
            ".github/agents/two.agent.md",
        }

    def test_files_and_directories_can_be_named(self, project: Project, tmp_path: Path) -> None:
        project.agent("ignored", "mcp__web__a")
        project.write("one.md", "---\nname: one\ndescription: x\ntools: mcp__web__a\n---\n")
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "two.md").write_text("---\nname: two\ndescription: x\ntools: mcp__web__a\n---\n")
        project.config(f"agents_from: [one.md, '{outside}', one.md]")
        loaded = project.load()
        assert [definition.path for definition in loaded.definitions] == [
            "one.md",
            str(outside / "two.md"),
        ]

    def test_links_do_not_lead_in_circles(self, project: Project) -> None:
        project.config("upstreams: {web: {command: web}}")
        project.agent("one", "mcp__web__a")
        (project.root / ".claude/agents/again").symlink_to(project.root / ".claude/agents")
        assert len(project.load().definitions) == 1

    def test_their_number_is_bounded(
        self, project: Project, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("gateway.config.files.MAX_AGENT_FILES", 2)
        for name in ("a", "b", "c"):
            project.agent(name, "mcp__web__a")
        project.config("agents_from:\n  - .claude/agents")
        [line] = told(project)
        assert line == "gateway.yaml:2: There are more than 2 agent files; name fewer."

    def test_the_digest_covers_names_and_contents_and_nothing_else(self, project: Project) -> None:
        project.config("upstreams: {web: {command: web}}")
        path = project.agent("one", "mcp__web__a")
        first = project.load().digest
        os.utime(path, (1, 1))
        assert project.load().digest == first
        path.rename(path.with_name("two.md"))
        second = project.load().digest
        assert second != first
        path.with_name("two.md").write_text("other")
        assert project.load().digest not in (first, second)


class TestFindings:
    @pytest.mark.parametrize(
        ("entry", "line"),
        [
            (f"{{command: a, env: {{API_KEY: {SECRET}}}}}", "upstreams.web.env.API_KEY"),
            (f"{{command: a, args: [--token, {SECRET}]}}", "upstreams.web.args[1]"),
            (f"{{command: a, args: [--api-key={SECRET}]}}", "upstreams.web.args[0]"),
            ("{command: a, args: [x, ghp_0123456789abcdef]}", "upstreams.web.args[1]"),
            (
                f"{{url: 'http://h/', headers: {{Authorization: Bearer {SECRET}}}}}",
                "upstreams.web.headers.Authorization",
            ),
            (f"{{url: 'http://h/?apiKey={SECRET}'}}", "upstreams.web.url"),
        ],
    )
    def test_a_secret_in_plain_text_is_warned_of_without_quoting_it(
        self, project: Project, entry: str, line: str
    ) -> None:
        project.config(f"upstreams:\n  web: {entry}")
        [finding] = project.load().findings
        assert (finding.code, finding.severity) == ("plain-secret", "warning")
        assert finding.message.startswith(f"{line} seems to hold a secret")
        assert SECRET not in finding.message

    @pytest.mark.parametrize(
        "entry",
        [
            "{command: a, env: {API_KEY: '${API_KEY}', TOKEN_FILE: /run/x, USE_TOKEN: 'true'}}",
            "{command: a, args: [-y, '@scope/token-server', --token, '${T}', --token-file=/x]}",
            "{url: 'http://h/?apiKey=${K}', headers: {Authorization: 'Bearer ${T}'}}",
        ],
    )
    def test_a_reference_is_not(self, project: Project, entry: str) -> None:
        project.config(f"upstreams:\n  web: {entry}")
        assert project.load().findings == ()

    def test_those_of_agent_files_are_among_them(self, project: Project) -> None:
        project.config("upstreams: {web: {command: web}}")
        project.agent("backend", "mcp__nowhere__x")
        loaded = project.load()
        assert "unknown-upstream" in [finding.code for finding in loaded.findings]


class TestTheUsersOwn:
    @pytest.fixture
    def own(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
        path = tmp_path / "config" / "mcp-tool-gateway" / "gateway.yaml"
        path.parent.mkdir(parents=True)
        path.write_text("upstreams: {mine: {command: mine}}\n")
        return path

    def test_it_holds_where_a_project_has_nothing(self, project: Project, own: Path) -> None:
        loaded = project.load()
        assert list(loaded.settings.upstreams) == ["mine"]
        assert loaded.settings.root == str(own.parent)

    @pytest.mark.parametrize("name", ["gateway.yaml", ".mcp.json"])
    def test_what_a_project_has_comes_first(self, project: Project, own: Path, name: str) -> None:
        key = "upstreams" if name == "gateway.yaml" else "mcpServers"
        project.write(name, json.dumps({key: {"theirs": {"command": "theirs"}}}))
        assert list(project.load().settings.upstreams) == ["theirs"]


def test_agent_files_of_a_home_that_has_none_are_no_mistake(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    project.agent("one", "mcp__srv")
    project.config("agents_from: [.claude/agents, ~/.claude/agents]")
    assert [each.name for each in project.load().definitions] == ["one"]
