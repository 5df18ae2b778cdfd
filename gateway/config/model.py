"""The shape of gateway.yaml, checked by pydantic; its errors retold with file, line and key.

Every part is checked on its own, so that all mistakes are found in one go.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from gateway.catalog.pins import OnText, Wildcards
from gateway.config.settings import MIB, ArgumentLevel, Durability, MetricsReaders, Mode
from gateway.documents import Document
from gateway.errors import UserError
from gateway.policy.approval import Way
from gateway.policy.snapshot import Govern

Key = str | int


def written(pattern: str, sentence: str) -> AfterValidator:
    """Text that matches `pattern` whole; `sentence` says what is wrong otherwise."""
    compiled = re.compile(pattern, re.DOTALL)

    def matches(text: str) -> str:
        if compiled.fullmatch(text) is None:
            raise PydanticCustomError(_OWN_SENTENCE, sentence)
        return text

    return AfterValidator(matches)


def one_or_more(items: dict[str, Any]) -> tuple[BeforeValidator, WithJsonSchema]:
    """A list, or a single text that stands for a list of one."""
    several = {"type": "array", "items": items, "minItems": 1}
    return BeforeValidator(_listed), WithJsonSchema({"anyOf": [items, several]})


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


_OWN_SENTENCE = "gateway"
_HOST = r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?"

Text = Annotated[str, written("[^\0]*", "must not contain a NUL character.")]
FilledText = Annotated[str, written("[^\0]+", "must not be empty or contain a NUL character.")]
EnvironmentName = Annotated[str, written("[^=\0]+", "is no name of an environment variable.")]
HeaderName = Annotated[
    str, written(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", "is no name of an HTTP header.")
]
Host = Annotated[str, written(_HOST, "must be a host, or HOST:PORT; wildcards are refused.")]
Origin = Annotated[
    str,
    written(
        "[a-z][a-z0-9+.-]*://" + _HOST,
        "must be an origin, such as https://HOST:PORT; wildcards and paths are refused.",
    ),
]
Remember = Annotated[
    str,
    written(
        "call|session|[1-9][0-9]{0,2}m|1[0-3][0-9]{2}m|14[0-3][0-9]m|1440m",
        "must be call, session, or minutes such as 15m, at most 1440m.",
    ),
]
Reference = Annotated[
    str,
    written(
        r".*\$\{.+\}.*",
        "must be a reference, such as ${NAME} or ${file:PATH}: the secret itself stands elsewhere.",
    ),
]
Age = Annotated[str, written("[1-9][0-9]{0,5}[smhdw]", "must be an age, such as 12h, 30d or 8w.")]
Collector = Annotated[
    str,
    written(
        f"https?://{_HOST}(/[!-~]*)?",
        "must be the base URL of a collector, such as http://HOST:4318; a user name or password "
        "is refused: use OTEL_EXPORTER_OTLP_HEADERS.",
    ),
]
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]


class Part(BaseModel):
    """A mapping of the configuration: known keys only, and no value taken for another type."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class Upstream(Part):
    shared: bool = False
    passthrough_unknown: bool = False
    start_timeout_s: Seconds = 20.0
    call_timeout_s: Seconds | None = None
    max_result_bytes: Annotated[int, Field(ge=1024, le=1024 * MIB)] = 64 * MIB


class StdioUpstream(Upstream):
    type: Literal["stdio"] = "stdio"
    command: FilledText
    args: list[Text] = []
    env: dict[EnvironmentName, Text] = {}
    inherit_env: list[EnvironmentName] = []
    cwd: FilledText | None = None


class HttpUpstream(Upstream):
    type: Literal["http", "streamable-http", "sse"] = "http"
    url: FilledText
    headers: dict[HeaderName, Text] = {}


class Grants(Part):
    resources: list[str] = []
    prompts: list[str] = []
    sampling: list[str] = []


class Agent(Part):
    max_tools: list[FilledText] | None = None
    grants: Grants = Grants()
    mode: Mode = "enforce"


class Spool(Part):
    max_bytes: Annotated[int, Field(ge=1024 * 1024)] = 1024 * MIB
    max_age_s: Annotated[float, Field(gt=0, le=31 * 86_400, allow_inf_nan=False)] = 86_400.0


class Checkpoints(Part):
    records: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    seconds: Seconds = 60.0


class Anchor(Part):
    """One of `file`, `webhook` and `command`."""

    file: FilledText | None = None
    webhook: FilledText | None = None
    headers: dict[HeaderName, Text] = {}
    command: Annotated[list[FilledText], Field(min_length=1)] | None = None


class Segments(Part):
    max_bytes: Annotated[int, Field(ge=64 * 1024, le=2048 * MIB)] = 64 * MIB
    max_age: Age = "1d"


class Retention(Part):
    max_bytes: Annotated[int, Field(ge=MIB)] | None = None
    max_age: Age | None = None


class Audit(Part):
    directory: FilledText | None = None
    store: FilledText | None = None
    read_from: FilledText | None = None
    spool: Spool = Spool()
    durability: Durability | None = None
    arguments: ArgumentLevel = "shape"
    arguments_for: dict[str, ArgumentLevel] = {}
    signing_key: FilledText | None = None
    checkpoints: Checkpoints = Checkpoints()
    anchor: list[Anchor] = []
    segments: Segments = Segments()
    retention: Retention = Retention()


class Http(Part):
    host: FilledText = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8750
    allowed_hosts: list[Host] = []
    allowed_origins: list[Origin] = []
    anonymous: Literal["loopback"] | None = None
    metrics: MetricsReaders = "loopback"
    tokens: FilledText | None = None


class Console(Part):
    enabled: bool | None = None
    approver_token: Reference | None = None
    reader_token: Reference | None = None
    session_minutes: Annotated[int, Field(ge=1, le=10_080)] = 480


class Limits(Part):
    max_message_bytes: Annotated[int, Field(ge=64 * 1024, le=1024 * MIB)] = 16 * MIB
    max_tools: Annotated[int, Field(ge=1, le=1_000_000)] = 50_000


class Approvals(Part):
    by: list[Way] = ["command", "console"]
    timeout_s: Seconds = 300.0
    remember: list[Remember] = ["call", "session", "15m"]
    max_held: Annotated[int, Field(ge=1, le=10_000)] = 64


class Telemetry(Part):
    traces: bool = False
    metrics: bool = False
    endpoint: Collector | None = None
    arguments: bool = False
    results: bool = False


class Pins(Part):
    text: OnText = "report"
    wildcards: Wildcards = "open"


class TopLevel(Part):
    """The top-level keys that are no sections; in a list, a single text may stand by itself.

    `main_thread` and `builtin_agents` are the name of an agent, `observe`, or a ceiling.
    """

    agents_from: list[FilledText] | None = None
    include: list[FilledText] = []
    policies: list[FilledText] | None = None
    default_agent: FilledText | None = None
    main_thread: FilledText | list[FilledText] | None = None
    builtin_agents: FilledText | list[FilledText] | None = None
    mode: Mode = "enforce"
    native_tools: Govern = "off"


LISTS = ("agents_from", "include", "policies")
"""The top-level keys whose single text is a list of one."""


SECTIONS: Mapping[str, type[Part]] = {
    "approvals": Approvals,
    "audit": Audit,
    "http": Http,
    "console": Console,
    "limits": Limits,
    "pins": Pins,
    "telemetry": Telemetry,
}
TOP_LEVEL_KEYS = (*TopLevel.model_fields, "upstreams", "agents", *SECTIONS)

PartT = TypeVar("PartT", bound=Part)


def check(
    part: type[PartT],
    value: object,
    document: Document,
    where: Sequence[Key],
    problems: list[UserError],
) -> PartT | None:
    """Check `value`, which stands at `where`; the result is None where `problems` were added."""
    try:
        return part.model_validate(value)
    except ValidationError as error:
        problems += [
            _retold(details, part, document, where)
            # The input is left out: it may be a secret.
            for details in error.errors(include_url=False, include_input=False)
        ]
        return None


def unknown_key(key: str, known: Sequence[str]) -> str:
    """The sentence about a key that nothing reads."""
    near = difflib.get_close_matches(key, known, 1) or _OTHERS_NAMES.get(key, [])
    if near and near[0] in known:
        return f"is not a known key; did you mean '{near[0]}'?"
    return f"is not a known key; known are {', '.join(known)}."


def dotted(where: Sequence[Key]) -> str:
    """How a place is written in a sentence: upstreams.web.args[0]."""
    text = ""
    for key in where:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return text


# What other programs call the same thing.
_OTHERS_NAMES = {
    "mcpServers": ["upstreams"],
    "mcp_servers": ["upstreams"],
    "servers": ["upstreams"],
    "environment": ["env"],
    "tools": ["max_tools"],
    "timeout": ["call_timeout_s"],
}


def _retold(
    details: ErrorDetails, part: type[Part], document: Document, where: Sequence[Key]
) -> UserError:
    kind, context = details["type"], details.get("ctx", {})
    inner = [key for key in details["loc"] if key != "[key]"]
    place = [*where, *inner]
    if kind == "extra_forbidden":
        sentence = unknown_key(str(inner[-1]), _keys_at(part, inner[:-1]))
    elif kind == "missing":
        place, key = place[:-1], place[-1]
        sentence = f"needs the key '{key}'."
    elif kind == _OWN_SENTENCE:
        sentence = details["msg"]
    elif kind in _SENTENCES:
        sentence = _SENTENCES[kind].format_map(context)
    else:
        sentence = f"is not valid: {details['msg']}."
    return UserError(f"{dotted(place)} {sentence}", path=document.path, line=document.line(*place))


_SENTENCES: Mapping[str, str] = {
    "string_type": "must be text; put it in quotes.",
    "bool_type": "must be true or false.",
    "int_type": "must be a whole number.",
    "float_type": "must be a number.",
    "list_type": "must be a list.",
    "dict_type": "must be a mapping of keys to values.",
    "model_type": "must be a mapping of keys to values.",
    "literal_error": "must be {expected}.",
    "greater_than": "must be greater than {gt}.",
    "greater_than_equal": "must be at least {ge}.",
    "less_than_equal": "must be at most {le}.",
    "too_short": "must not be empty.",
    "string_too_long": "must have at most {max_length} characters.",
    "finite_number": "must be a finite number.",
}


def _keys_at(part: type[Part], where: Sequence[Key]) -> list[str]:
    """The known keys of the mapping at `where` inside `part`."""
    fields: dict[str, Any] = dict(part.model_fields)
    for key in where:
        annotation = fields[str(key)].annotation
        if isinstance(annotation, type) and issubclass(annotation, Part):
            fields = dict(annotation.model_fields)
    return list(fields)
