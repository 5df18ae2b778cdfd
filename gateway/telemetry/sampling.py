"""Which traces are kept, as the variables OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG say.

Asked for each call, so it is decided here by a comparison and not by the SDK, which is slow to
import.
"""

from collections.abc import Callable, Mapping

from gateway.errors import UserError
from gateway.wire.trace import TraceContext

Sampler = Callable[[TraceContext | None, str], bool]
"""Whether a trace is kept, by the context of the caller and the trace's id."""

_WHOLE = 1 << 64
_NAMES = (
    *("always_on", "always_off", "traceidratio"),
    *("parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio"),
)


def sampler(environ: Mapping[str, str]) -> Sampler:
    """The sampler that the environment names; raises UserError where it is none."""
    name = environ.get("OTEL_TRACES_SAMPLER", "").strip() or "parentbased_always_on"
    if name not in _NAMES:
        raise UserError(
            f"OTEL_TRACES_SAMPLER is none of {', '.join(_NAMES)}; correct the variable, or unset it"
        )
    root = name.removeprefix("parentbased_")
    bound = {"always_on": _WHOLE, "always_off": 0}.get(root)
    if bound is None:
        bound = _bound(environ.get("OTEL_TRACES_SAMPLER_ARG", "").strip())
    by_parent = name != root

    def keeps(parent: TraceContext | None, trace_id: str) -> bool:
        if by_parent and parent is not None:
            return parent.sampled
        return int(trace_id[16:], 16) < bound

    return keeps


def _bound(text: str) -> int:
    try:
        ratio = float(text or "1")
    except ValueError:
        ratio = -1.0
    if not 0 <= ratio <= 1:
        raise UserError("OTEL_TRACES_SAMPLER_ARG must be a number from 0 to 1; correct it")
    return round(ratio * _WHOLE)
