"""The records of the audit log and the one line of canonical JSON that each becomes.

A line is RFC 8785 JSON: keys sorted, no white space, UTF-8. The subset has no floats, integers
within +-(2**53 - 1) and ASCII keys only, so that any verifier can rebuild a line from its values.
Text from outside is only ever a value, never a key.

`v`, `writer`, `seq` and `prev` are stamped by the journal; leave them alone.
"""

import os
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from operator import attrgetter
from typing import Any, Final, Literal, TypeAlias

import msgspec

RECORD_VERSION: Final = 1
NO_RECORD: Final = "0" * 64
"""`prev` of a journal's first record."""

TEXT_CHARS: Final = 1024
"""The longest text that a record holds as it is; `capped` says what becomes of longer ones."""
INTEGER_LIMIT: Final = 2**53 - 1

Transport: TypeAlias = Literal["stdio", "http", "hook"]
"""How the request came; "hook": a host asked about one of its own tools."""
Identified: TypeAlias = Literal["process", "token", "hook", "url", "default", "none"]
Effect: TypeAlias = Literal["allow", "ask", "deny"]
Status: TypeAlias = Literal[
    "ok",
    "tool_error",
    "error",
    "cancelled",
    "upstream_lost",
    "timeout",
    "unanswered",
    "input_required",
]
Scalar: TypeAlias = str | int | bool | None


class ClientInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the client says about itself; never evidence of who it is."""

    name: str
    version: str | None = None


class HostCall(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the hook of the client's host said of the call.

    `agent_type` None is the host's main thread; `agent_id` tells its running subagents apart.
    """

    session: str
    tool_use_id: str
    agent_type: str | None = None
    agent_id: str | None = None


class Stamped(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind"):
    """What every record has: when, and its place in its writer's chain."""

    time: str  # see timestamp()
    v: int = 0
    writer: str = ""  # the journal's file name without its suffix
    seq: int = 0  # from 1, without holes
    prev: str = ""  # SHA-256 of the line before, hex


class Decision(Stamped, frozen=True, kw_only=True, tag="decision"):
    """What was asked for and what was decided, committed before it is acted on.

    Fields that are None and have a default are absent from the line; `agent`, `tool`, `rule` and
    `reason` are always there.
    """

    call: str  # see new_call_id()
    session: str
    transport: Transport
    agent: str | None
    identified: Identified
    method: str
    action: str  # the kind of action: tool, resource, prompt, ...
    tool: str | None  # tool id, for tools only
    decision: Effect
    rule: str | None
    reason: str | None
    enforced: bool = True  # False: the decision was only observed, it stopped nothing
    upstream: str | None = None
    name: str | None = None  # the target as the client wrote it
    arguments: dict[str, object] | None = None  # from summarise_arguments()
    client: ClientInfo | None = None
    protocol: str | None = None
    file: str | None = None  # where the rule stands
    line: int | None = None
    snapshot: str | None = None  # digest of the policy, agents and pins decided on
    definition: str | None = None  # digest of the tool's definition
    host: HostCall | None = None
    trace: str | None = None
    approval: str | None = None  # of a person: the events approval.* say more


class Outcome(Stamped, frozen=True, kw_only=True, tag="outcome"):
    """How an allowed call ended; joined to its decision by `call`."""

    call: str
    status: Status
    duration_us: int
    error_code: int | None = None  # of a JSON-RPC error, clamped to +-INTEGER_LIMIT
    result_size_bytes: int | None = None
    result_digest: str | None = None  # from Digester.digest(); of what the upstream sent
    changes: dict[str, int] | None = None  # what rules about results did, by our own words for it
    observed: dict[str, int] | None = None  # what they would have done besides


class Head(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where another journal stood when this one was opened: its last whole record.

    `final`: its writer was gone, so nothing may come after that record.
    """

    writer: str
    seq: int
    digest: str  # SHA-256 of that record's line, hex
    size_bytes: int  # of the file that it stands in, up to its end
    final: bool = False


class Pruned(msgspec.Struct, frozen=True, kw_only=True):
    """What a segment held that retention deleted."""

    writer: str
    segment: str  # the file's name without its suffix
    first_seq: int
    last_seq: int
    prev: str  # of its first record
    digest: str  # SHA-256 of its last line
    size_bytes: int  # of its lines
    tree: tuple[
        str, ...
    ]  # the chain's RFC 6962 tree up to `last_seq`: full subtrees, largest first


class Event(Stamped, frozen=True, kw_only=True, tag="event"):
    """Anything else worth keeping: session.opened, listing, upstream.exited, journal.gap, ...

    `data` is flat; its keys are our own ASCII words, never text from outside. `heads` is in the
    record that opens a file, `pruned` in the one that stands for a deleted segment.
    """

    event: str
    session: str | None = None
    agent: str | None = None
    upstream: str | None = None
    data: dict[str, Scalar] | None = None
    heads: tuple[Head, ...] | None = None
    pruned: Pruned | None = None


Record: TypeAlias = Decision | Outcome | Event


def timestamp() -> str:
    """Now, as RFC 3339 UTC with microseconds; of one width, so that order of text is of time."""
    return datetime.now(UTC).isoformat(timespec="microseconds")[:-6] + "Z"


class Timestamps:
    """The same as `timestamp` for many calls a second: all but the fraction is kept."""

    def __init__(self) -> None:
        self._second = -1
        self._written = ""

    def __call__(self) -> str:
        second, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
        if second != self._second:
            self._second = second
            self._written = datetime.fromtimestamp(second, UTC).isoformat()[:-6]
        return f"{self._written}.{nanoseconds // 1000:06d}Z"


def new_call_id() -> str:
    """A UUIDv7: milliseconds, then 12 bits of their fraction, then 62 random bits.

    Ids sort by time; the random bits keep those of many gateways apart.
    """
    return _call_id(os.urandom(_RANDOM_BYTES))


class CallIds:
    """The same as `new_call_id` for many calls a second: asks the system for many at a time.

    A fork must make its own.
    """

    def __init__(self) -> None:
        self._chance = b""

    def __call__(self) -> str:
        if not self._chance:
            self._chance = os.urandom(_RANDOM_BYTES * _IDS_AT_ONCE)
        taken, self._chance = self._chance[-_RANDOM_BYTES:], self._chance[:-_RANDOM_BYTES]
        return _call_id(taken)


_RANDOM_BYTES: Final = 8
_IDS_AT_ONCE: Final = 64


def _call_id(chance: bytes) -> str:
    clock = f"{(time.time_ns() << 12) // 1_000_000:015x}"
    last = f"{int.from_bytes(chance, 'big') >> 2 | 2 << 62:016x}"
    return f"{clock[:8]}-{clock[8:12]}-7{clock[12:]}-{last[:4]}-{last[4:]}"


def stamped(record: Record, *, writer: str, seq: int, prev: str) -> Record:
    """`record` in its place in the chain of `writer`."""
    return msgspec.structs.replace(record, v=RECORD_VERSION, writer=writer, seq=seq, prev=prev)


def encode_record(record: Record) -> bytes:
    """The canonical line of `record`, without its line end.

    Over-long texts are capped, lone surrogates (bytes of a file name that are not UTF-8) are
    written as `\\udcXX`. Raises TypeError or ValueError for an event's `data` outside the subset.
    """
    if isinstance(record, Event):
        if record.data:
            record = msgspec.structs.replace(record, data=_checked_data(record.data))
    elif isinstance(record, Outcome) and record.error_code is not None:
        record = msgspec.structs.replace(record, error_code=_clamped(record.error_code))
    try:
        line = _encode(record)
    except UnicodeEncodeError:
        record = _without_surrogates(record)
        line = _encode(record)
    if len(line) > TEXT_CHARS and _has_long_text(record):  # most lines are shorter than one text
        line = _encode(_with_texts_capped(record))
    return line


def capped(text: str, limit: int = TEXT_CHARS) -> str:
    """`text`, or its first `limit` characters, how many there were and a SHA-256 of them all.

    A text in a record that is longer than the limit was capped: nothing else can be. The digest is
    plain because the text itself would stand there if it were shorter.
    """
    if len(text) <= limit:
        return text
    digest = sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{text[:limit]}... [{len(text)} characters, SHA-256 {digest}]"


_encode = msgspec.json.Encoder(order="sorted").encode


_TEXT_FIELDS: Final[dict[type[Record], tuple[str, ...]]] = {
    Decision: (
        *("call", "session", "protocol", "trace", "agent", "upstream", "method", "action", "tool"),
        *("name", "rule", "file", "reason", "snapshot", "definition", "approval"),
    ),
    Outcome: ("call", "result_digest"),
    Event: ("event", "session", "agent", "upstream"),
}
_texts: Final[dict[type[Record], Callable[[Record], Sequence[str | None]]]] = {
    kind: attrgetter(*fields) for kind, fields in _TEXT_FIELDS.items()
}


def _has_long_text(record: Record) -> bool:
    texts = _texts[type(record)](record)
    if max(map(len, filter(None, texts)), default=0) > TEXT_CHARS:
        return True
    return isinstance(record, Decision) and any(
        text is not None and len(text) > TEXT_CHARS
        for part in (record.client, record.host)
        if part is not None
        for text in msgspec.structs.astuple(part)
    )


def _with_texts_capped(record: Record) -> Record:
    changes: dict[str, object] = _capped_texts(record, _TEXT_FIELDS[type(record)])
    if isinstance(record, Decision):
        for field, part in (("client", record.client), ("host", record.host)):
            if part is not None:
                texts = _capped_texts(part, part.__struct_fields__)
                changes[field] = msgspec.structs.replace(part, **texts)
    return msgspec.structs.replace(record, **changes)


def _capped_texts(part: msgspec.Struct, fields: Sequence[str]) -> dict[str, object]:
    texts = {field: getattr(part, field) for field in fields}
    return {field: capped(text) for field, text in texts.items() if text is not None}


def _checked_data(data: dict[str, Scalar]) -> dict[str, Scalar]:
    checked: dict[str, Scalar] = {}
    for key, value in data.items():
        if not (key.isascii() and key.isprintable()):
            raise ValueError(f"not a key for an event's data: {key!r}")
        if isinstance(value, str):
            value = capped(_without_surrogates(value))
        elif isinstance(value, int):
            value = value if isinstance(value, bool) else _clamped(value)
        elif value is not None:
            raise TypeError(f"not a value for an event's data: {type(value).__name__}")
        checked[key] = value
    return checked


def _clamped(number: int) -> int:
    return max(-INTEGER_LIMIT, min(INTEGER_LIMIT, number))


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {key: _without_surrogates(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, msgspec.Struct):
        fields = value.__struct_fields__
        changes = {field: _without_surrogates(getattr(value, field)) for field in fields}
        return msgspec.structs.replace(value, **changes)
    return value
