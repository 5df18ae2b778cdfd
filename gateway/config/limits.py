"""The `limits` of a rule in a policy file: their shape, checked by pydantic, and what they mean."""

import re
from collections.abc import Iterable, Iterator
from typing import Annotated, get_args

from pydantic import Field

from gateway.config import model
from gateway.policy.limits import Limit, LimitKind, Limits, Per

MAX_PERIOD_S = 31 * 86_400
MAX_CALLS = 10**9
MAX_BYTES = 10**15

_PERIODS = {
    **dict.fromkeys(("s", "second", "seconds"), 1),
    **dict.fromkeys(("min", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hour", "hours"), 3_600),
    **dict.fromkeys(("d", "day", "days"), 86_400),
}
_SIZES = {
    "": 1,
    "B": 1,
    **{f"{prefix}B": 1_000**power for power, prefix in enumerate(("k", "M", "G"), 1)},
    **{f"{prefix}iB": 1_024**power for power, prefix in enumerate(("K", "M", "G"), 1)},
}
_PERIOD = f"/([1-9][0-9]{{0,6}})?({'|'.join(_PERIODS)})"
_CALLS = f"([1-9][0-9]{{0,8}}|{MAX_CALLS}){_PERIOD}"
_BYTES = f"([1-9][0-9]{{0,14}}) ?({'|'.join(_SIZES)}){_PERIOD}"

CallRate = Annotated[
    str, model.written(_CALLS, "must be calls in a time, such as 30/hour or 5/10s.")
]
ByteRate = Annotated[
    str, model.written(_BYTES, "must be bytes in a time, such as 50MB/day or 200kB/10min.")
]


class LimitsPart(model.Part):
    """How much a rule allows: for each agent, unless `per` says otherwise."""

    calls: Annotated[
        list[CallRate], *model.one_or_more({"type": "string", "pattern": f"^{_CALLS}$"})
    ] = Field(default_factory=list, min_length=1)
    in_flight: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    result_bytes: Annotated[
        list[ByteRate], *model.one_or_more({"type": "string", "pattern": f"^{_BYTES}$"})
    ] = Field(default_factory=list, min_length=1)
    per: Annotated[list[Per], *model.one_or_more({"enum": list(get_args(Per))})] = Field(
        default=["agent"], min_length=1
    )


Problem = tuple[tuple[model.Key, ...], str]
"""Where inside `limits` something is wrong, and a sentence without its beginning."""


def read_limits(part: LimitsPart) -> tuple[Limits, list[Problem]]:
    """What the part means, and what is wrong with it."""
    limits: list[Limit] = []
    problems = [
        *_rates("calls", part.calls, _CALLS, MAX_CALLS, limits),
        *_rates("result_bytes", part.result_bytes, _BYTES, MAX_BYTES, limits),
        *_problems_of_per(part.per),
    ]
    if part.in_flight is not None:
        limits.append(Limit("in_flight", part.in_flight))
    if not limits and not problems:
        problems.append(((), "limits nothing; add calls, in_flight or result_bytes."))
    # In one order, so that the same limits mean the same however they are written.
    limits.sort(key=lambda limit: (limit.kind, limit.period_s))
    per = tuple(each for each in get_args(Per) if each in part.per)
    return Limits(tuple(limits), per), problems


def _rates(
    kind: LimitKind, texts: Iterable[str], pattern: str, most: int, limits: list[Limit]
) -> Iterator[Problem]:
    """Adds the limits that `texts` are; each was matched by `pattern`."""
    periods: set[int] = set()
    for index, text in enumerate(texts):
        found = re.fullmatch(pattern, text)
        assert found is not None
        amount, *size, number, unit = found.groups()
        whole = int(amount) * (_SIZES[size[0]] if size else 1)
        period_s = int(number or 1) * _PERIODS[unit]
        if period_s > MAX_PERIOD_S:
            yield (kind, index), f"is a longer time than {MAX_PERIOD_S // 86_400} days; shorten it."
        elif whole > most:
            yield (kind, index), f"is more than {most}; lower it, or leave it out."
        elif period_s in periods:
            yield (kind, index), "is about the same time as another one; keep the lower."
        else:
            periods.add(period_s)
            limits.append(Limit(kind, whole, period_s))


def _problems_of_per(per: list[Per]) -> Iterator[Problem]:
    if len(set(per)) < len(per):
        yield ("per",), "names one thing twice; name each once."
    elif "rule" in per and len(per) > 1:
        yield ("per",), "counts all together by rule; name nothing besides, or leave rule out."
