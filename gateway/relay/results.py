"""Applies the rules about results to what upstreams answer; large answers beside the event loop."""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import msgspec

from gateway.catalog.names import tool_id
from gateway.policy.results import Changes, Treatment, Treatments
from gateway.relay.authority import Authority
from gateway.relay.call import Call
from gateway.wire import frames
from gateway.wire.envelope import Response
from gateway.wire.params import encode

_INLINE_BYTES: Final = 16 * 1024
"""Results up to this size are treated on the event loop, larger ones in a thread."""
_NONCE_CHARS: Final = 12
_OF_UPSTREAM: Final = frozenset(("resources/read", "prompts/get"))

Counts = Mapping[str, int]


class Treated(msgspec.Struct, frozen=True):
    """What the client gets, the upstream's own answer where nothing was changed, and why."""

    answer: Response
    changes: Changes | None = None


Then = Callable[[Treated], None]


class Results:
    """The treatment of one session's results."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._aside: set[asyncio.Task[None]] = set()

    def treat(self, call: Call, answer: Response, then: Then, *, modern: bool) -> None:
        """Call `then` with what the client is to get: at once, unless that takes long.

        `modern`: the answer is one of a stateless revision.
        """
        treatments = self._treatments(call)
        if treatments is None:
            then(Treated(answer))
            return
        job = partial(
            treated,
            treatments,
            answer,
            Where(
                _source(call),
                call.id[-_NONCE_CHARS:],
                tool=call.action.method in ("tools/call", "tasks/result"),
                modern=modern,
            ),
        )
        result = answer.result
        if result is None or result.nbytes <= _INLINE_BYTES or not _reads(treatments, result):
            then(job())
            return
        task = asyncio.get_running_loop().create_task(_beside(job, then))
        self._aside.add(task)
        task.add_done_callback(self._aside.discard)

    def _treatments(self, call: Call) -> Treatments | None:
        """What holds for the result of a call, None where nothing does."""
        snapshot = self._authority.snapshot
        if not snapshot.results:
            return None
        action, agent = call.action, call.identity.agent or ""
        permissions = snapshot.agents.get(agent)
        observe = snapshot.observe or (permissions is not None and permissions.observed)
        rules = snapshot.results
        if action.kind == "tool":
            wanted = tool_id(action.upstream, action.name)
            found = rules.of_tool(agent, wanted, observe=observe)
        elif action.method in _OF_UPSTREAM:
            found = rules.of_upstream(agent, action.upstream, observe=observe)
        elif action.kind == "task":
            found = rules.of_task(agent, action.upstream, observe=observe)
        else:
            return None
        return found if found.observed != Treatment() else None


class Where(msgspec.Struct, frozen=True):
    """What an answer is to: named in a mark, with what its upstream cannot know; and its form."""

    source: str
    nonce: str
    tool: bool
    modern: bool


def treated(treatments: Treatments, answer: Response, where: Where) -> Treated:
    """An answer by its rules. What goes wrong withholds it."""
    given, made = _treated(treatments.enforced, answer, where)
    observed: Counts = {}
    if treatments.differ:
        _, all_of_it = _treated(treatments.observed, answer, where)
        observed = {kind: each for kind, each in all_of_it.items() if made.get(kind) != each}
    return Treated(given, Changes(made, observed) if made or observed else None)


def _treated(treatment: Treatment, answer: Response, where: Where) -> tuple[Response, Counts]:
    size = len(answer.error or b"") if answer.result is None else answer.result.nbytes
    if treatment.max_bytes is not None and size > treatment.max_bytes:
        reason = (
            f"the result is {size} bytes long, and a rule of the gateway allows "
            f"{treatment.max_bytes}; ask for less at a time"
        )
        return _withheld(answer, reason, where)
    if not treatment.reads:
        return answer, {}
    try:
        return _read(treatment, answer, where)
    except Exception as error:  # noqa: BLE001 - whatever it is, it must not let the result through
        reason = (
            "the result could not be examined as a rule of the gateway demands "
            f"({type(error).__name__})"
        )
        return _withheld(answer, reason, where)


def _read(treatment: Treatment, answer: Response, where: Where) -> tuple[Response, Counts]:
    from gateway.policy.treating import Treating  # most gateways have no such rules

    treating = Treating(treatment, source=where.source, nonce=where.nonce)
    if answer.result is None:
        error = encode(treating.error(_decode(answer.error or b"{}")))
        counts = dict(treating.counts) or _doubled(answer.error or b"{}", error)
        return (msgspec.structs.replace(answer, error=error) if counts else answer), counts
    result = encode(treating.result(_decode(answer.result)))
    counts = dict(treating.counts) or _doubled(answer.result, result)
    if not counts:
        return answer, {}
    return msgspec.structs.replace(answer, result=memoryview(result)), counts


def _doubled(encoded: bytes | memoryview, once: bytes) -> Counts:
    """Whether members stand twice in what was `encoded`, of which `once` has only the last.

    Only the last was looked at, and some clients take the first.
    """
    if once == encoded:
        return {}
    doubled = 0

    def members(pairs: list[tuple[str, object]]) -> None:
        nonlocal doubled
        doubled += len(pairs) - len({key for key, _ in pairs})

    import json  # most answers are written as we write them

    json.loads(bytes(encoded), object_pairs_hook=members, parse_int=str, parse_float=str)
    return {"doubled": doubled} if doubled else {}


def _number(text: str) -> msgspec.Raw:
    """A number as it was written: digits that no float has stay."""
    return msgspec.Raw(text.encode())


_decode = msgspec.json.Decoder(dict[str, object], float_hook=_number).decode


def _withheld(answer: Response, reason: str, where: Where) -> tuple[Response, Counts]:
    text = f"Withheld by the gateway: {reason}."
    if where.tool:
        result = memoryview(frames.tool_error(text, modern=where.modern))
        return msgspec.structs.replace(answer, result=result, error=None), {"withheld": 1}
    error = encode({"code": frames.WITHHELD, "message": text})
    return msgspec.structs.replace(answer, result=None, error=error), {"withheld": 1}


async def _beside(job: Callable[[], Treated], then: Then) -> None:
    then(await asyncio.get_running_loop().run_in_executor(None, job))


def _reads(treatments: Treatments, result: memoryview) -> bool:
    """Whether a result has to be decoded, and not only measured."""
    return any(
        each.reads and (each.max_bytes is None or result.nbytes <= each.max_bytes)
        for each in (treatments.enforced, treatments.observed)
    )


def _source(call: Call) -> str:
    action = call.action
    if action.kind == "tool":
        return tool_id(action.upstream, action.name)
    return tool_id(action.upstream, "").removesuffix("__")
