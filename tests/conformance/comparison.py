"""What changes between a run of the suite against a server and one through something before it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tests.conformance.suite import WHOLE_SCENARIO, Check

_Key = tuple[str, str]


@dataclass(frozen=True)
class Comparison:
    """The baseline diff.

    `added` fail only through, `mended` only directly; `lost` pass directly and neither pass nor
    fail through: the suite warned, or did not come to them.
    """

    added: tuple[Check, ...]
    mended: tuple[Check, ...]
    lost: tuple[Check, ...]


def compare(direct: Sequence[Check], through: Sequence[Check]) -> Comparison:
    """Compare two runs of the same suite.

    A scenario that was run directly and not to its end through counts as one failure.
    """
    given_up = tuple(check for check in through if check.id == WHOLE_SCENARIO)
    reached = {check.scenario for check in through}
    absent = sorted({check.scenario for check in direct} - reached)
    not_run = [Check(name, WHOLE_SCENARIO, "FAILURE", "it was not run") for name in absent]
    decided = reached - {check.scenario for check in given_up}
    before = [check for check in direct if check.scenario in decided]
    after = [check for check in through if check.scenario in decided]
    added = _more(_having(after, "FAILURE"), _having(before, "FAILURE"))
    fewer = _more(_having(before, "SUCCESS"), _having(after, "SUCCESS"))
    return Comparison(
        added=(*added, *given_up, *not_run),
        mended=_more(_having(before, "FAILURE"), _having(after, "FAILURE")),
        lost=_without(fewer, Counter(_key(check) for check in added)),
    )


def count(checks: Sequence[Check], verdict: str) -> int:
    """How many checks came to this verdict."""
    return len(_having(checks, verdict))


def _key(check: Check) -> _Key:
    return check.scenario, check.id


def _having(checks: Sequence[Check], verdict: str) -> list[Check]:
    return [check for check in checks if check.verdict == verdict]


def _more(these: Sequence[Check], than: Sequence[Check]) -> tuple[Check, ...]:
    """Those of `these` that `than` does not match one by one."""
    return _without(these, Counter(_key(check) for check in than))


def _without(these: Sequence[Check], taken: Counter[_Key]) -> tuple[Check, ...]:
    left = Counter(taken)
    kept = []
    for check in these:
        if left[_key(check)] > 0:
            left[_key(check)] -= 1
        else:
            kept.append(check)
    return tuple(kept)
