"""The configuration as it is used at run time, and as it is kept between runs.

References to secrets (`${VAR}` and the like) stand here as they were written: see
`gateway.config.references`. Paths of files are relative to `Settings.root` where they lie under it.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec

from gateway.catalog.pins import Pins
from gateway.policy.approval import Terms
from gateway.policy.results import ResultRule
from gateway.policy.rules import Rule
from gateway.policy.snapshot import Govern, OperatorEntry, Standing

ArgumentLevel = Literal["none", "shape", "redacted", "full"]
Durability = Literal["process", "power"]
Mode = Literal["observe", "enforce"]
MetricsReaders = Literal["off", "token", "loopback", "anyone"]

MIB = 1024 * 1024


class _Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What every upstream has. `path` and `line` say where its entry stands.

    `shared`: one connection serves all client sessions. `passthrough_unknown`: methods that the
    gateway does not know pass in both directions. `call_timeout_s` None waits without limit.
    """

    name: str
    path: str
    line: int
    shared: bool = False
    passthrough_unknown: bool = False
    start_timeout_s: float = 20.0
    call_timeout_s: float | None = None
    max_result_bytes: int = 64 * MIB


class StdioEntry(_Entry, frozen=True, kw_only=True, tag="stdio"):
    """An upstream that is a process. `cwd` None is the configuration's own directory.

    `inherit_env` names variables that the process gets from the gateway's environment besides the
    harmless ones.
    """

    command: str
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = {}
    inherit_env: tuple[str, ...] = ()
    cwd: str | None = None


class HttpEntry(_Entry, frozen=True, kw_only=True, tag="http"):
    """An upstream that is reached by streamable HTTP."""

    url: str
    headers: Mapping[str, str] = {}


class SseEntry(HttpEntry, frozen=True, kw_only=True, tag="sse"):
    """An upstream that is reached by HTTP+SSE, the transport of revision 2024-11-05."""


UpstreamEntry = StdioEntry | HttpEntry | SseEntry


class SpoolSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How much of the journal may wait for the shared store, and how long, before calls stop."""

    max_bytes: int = 1024 * MIB
    max_age_s: float = 86_400.0


class CheckpointSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How often what is recorded is signed: after so many records, or so many seconds."""

    records: int = 1000
    seconds: float = 60.0


class AnchorSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One place outside of the log that checkpoints are kept in: one of the three."""

    line: int
    file: str | None = None
    webhook: str | None = None
    headers: Mapping[str, str] = {}
    command: tuple[str, ...] | None = None


class SegmentSettings(msgspec.Struct, frozen=True, kw_only=True):
    """When a journal goes on in another file."""

    max_bytes: int = 64 * MIB
    max_age_s: int = 86_400


class RetentionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What `gateway audit prune` leaves. None does not restrict."""

    max_bytes: int | None = None
    max_age_s: int | None = None


class AuditSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where and how much is recorded.

    `directory` None is the user's own state directory; `durability` None lets the command choose.
    `arguments_for` overrides the level `arguments` for single tool ids. `store` is the URL of the
    PostgreSQL that the journal is copied to, None where it is not; `spool` bounds what may wait.
    `read_from` is the URL with which readers ask it, None where they ask the journals here.
    `signing_key` refers to the key that signs checkpoints, None is the one beside the log, if any.
    """

    directory: str | None = None
    store: str | None = None
    read_from: str | None = None
    spool: SpoolSettings = SpoolSettings()
    durability: Durability | None = None
    arguments: ArgumentLevel = "shape"
    arguments_for: Mapping[str, ArgumentLevel] = {}
    signing_key: str | None = None
    checkpoints: CheckpointSettings = CheckpointSettings()
    anchor: tuple[AnchorSettings, ...] = ()
    segments: SegmentSettings = SegmentSettings()
    retention: RetentionSettings = RetentionSettings()


class HttpSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where `gateway serve` listens, and which Host and Origin headers it takes besides its own.

    `metrics` says who may read `/metrics` without a token of their own: callers on this host where
    the service is for this host alone, or anyone. "token": nobody; "off": there are none.
    `anonymous` "loopback": callers on this host need no token. `tokens` is the file or directory
    that holds the tokens, None the user's own.
    """

    host: str = "127.0.0.1"
    port: int = 8750
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    anonymous: Literal["loopback"] | None = None
    metrics: MetricsReaders = "loopback"
    tokens: str | None = None


class ConsoleSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The page to read the log with, of `gateway serve`.

    `enabled` None: on loopback always, elsewhere where a token lets people in. The tokens are
    references to secrets: who enters one reads, or answers approvals as well.
    """

    enabled: bool | None = None
    approver_token: str | None = None
    reader_token: str | None = None
    session_minutes: int = 480


class TelemetrySettings(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent by OpenTelemetry, and whether spans hold arguments and results of tools.

    `endpoint` None is what the environment says.
    """

    traces: bool = False
    metrics: bool = False
    endpoint: str | None = None
    arguments: bool = False
    results: bool = False


class LimitSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds on what a client or an upstream may send."""

    max_message_bytes: int = 16 * MIB
    max_tools: int = 50_000


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """One configuration, valid as a whole.

    `root` is the absolute directory that relative paths start from; `path` is the configuration's
    own file, "" where there is none. `digest` is the SHA-256 over every file that was read, in hex.
    `lines` has the line of each key of the configuration's own file. `mode` "observe" enforces no
    decision but the built-in safety refusals; `native_tools` says what the client's hook does about
    the client's own tools. `policies` and `results` are the rules of all policy files, `approvals`
    says how a person answers those that ask. `pins` None: nothing is pinned.
    """

    root: str
    path: str
    digest: str
    lines: Mapping[str, int] = {}
    upstreams: Mapping[str, UpstreamEntry] = {}
    agents: Mapping[str, OperatorEntry] = {}
    default_agent: str | None = None
    main_thread: Standing | None = None
    builtin_agents: Standing | None = None
    mode: Mode = "enforce"
    native_tools: Govern = "off"
    audit: AuditSettings = AuditSettings()
    http: HttpSettings = HttpSettings()
    console: ConsoleSettings = ConsoleSettings()
    limits: LimitSettings = LimitSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    pins: Pins | None = None
    policies: tuple[Rule, ...] = ()
    results: tuple[ResultRule, ...] = ()
    approvals: Terms = Terms()
