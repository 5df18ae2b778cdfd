"""Counting by limits: exact where it may be, never too little, and nothing left behind."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.limits import Limit, LimitKind, Reservation
from gateway.policy.values import Decision
from gateway.relay.limiting import Limiting, Taken, Window


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def reservation(
    kind: LimitKind = "calls",
    amount: int = 3,
    period_s: int = 60,
    *,
    rule: str = "few",
    agent: str = "a",
    enforced: bool = True,
) -> Reservation:
    period_s = 0 if kind == "in_flight" else period_s
    limit = Limit(kind, amount, period_s)
    counter = (rule, kind, period_s, (("agent", agent),))
    return Reservation(rule, "p.yaml", 7, limit, counter, enforced=enforced)  # type: ignore[arg-type]


class Counting:
    """One gateway's limits, and calls that take from them."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.limiting = Limiting(self.clock)

    def decide(self, *wanted: Reservation, as_task: bool = False) -> tuple[Decision, Taken | None]:
        verdict = Decision("allow", "declared tools", "r", reservations=wanted)
        return self.limiting.reserve(verdict, as_task=as_task)

    def taken(self, *wanted: Reservation) -> Taken:
        verdict, taken = self.decide(*wanted)
        assert verdict.effect == "allow"
        assert taken is not None
        taken.sent = True
        return taken

    def refused(self, *wanted: Reservation) -> Decision:
        verdict, taken = self.decide(*wanted)
        assert verdict.refuses
        assert taken is None
        return verdict

    @property
    def standing(self) -> list[int]:
        return [each.used for each in self.limiting.standings()]


@pytest.fixture
def counting() -> Counting:
    return Counting()


class TestCalls:
    def test_so_many_go_in_a_period_and_the_next_when_the_first_is_over(
        self, counting: Counting
    ) -> None:
        for _ in range(3):
            counting.taken(reservation()).end()
            counting.clock.now += 10
        verdict = counting.refused(reservation())
        assert (verdict.rule, verdict.file, verdict.line) == ("few", "p.yaml", 7)
        assert verdict.reason.endswith("try again in 30 seconds")
        counting.clock.now += 29.9
        counting.refused(reservation())
        counting.clock.now += 0.1
        counting.taken(reservation())
        counting.refused(reservation())

    def test_a_call_that_never_left_does_not_count(self, counting: Counting) -> None:
        _, taken = counting.decide(reservation(amount=1))
        assert taken is not None
        counting.refused(reservation(amount=1))
        taken.end()
        taken.end()
        counting.taken(reservation(amount=1))

    def test_only_the_call_that_never_left_is_taken_back(self, counting: Counting) -> None:
        _, unsent = counting.decide(reservation())
        counting.taken(reservation())
        assert unsent is not None
        unsent.end()
        assert counting.standing == [1]

    def test_what_is_over_anyway_is_not_taken_back(self, counting: Counting) -> None:
        _, unsent = counting.decide(reservation())
        assert unsent is not None
        counting.clock.now += 60
        counting.taken(reservation())
        unsent.end()
        assert counting.standing == [1]

    def test_what_is_counted_for_one_is_not_counted_for_another(self, counting: Counting) -> None:
        counting.taken(reservation(amount=1, agent="a"))
        counting.taken(reservation(amount=1, agent="b"))
        counting.refused(reservation(amount=1, agent="a"))

    def test_of_two_amounts_for_one_counter_the_lower_holds(self, counting: Counting) -> None:
        both = (reservation(amount=2), reservation(amount=9))
        counting.taken(*both)
        counting.taken(*both)
        assert counting.standing == [2]
        counting.refused(*both)


class TestInFlight:
    def test_it_is_free_again_when_the_call_has_ended_once(self, counting: Counting) -> None:
        wanted = reservation("in_flight", 2)
        first, _ = counting.taken(wanted), counting.taken(wanted)
        verdict = counting.refused(wanted)
        assert verdict.reason.endswith("try again when one of them has ended")
        first.end()
        first.end()
        counting.taken(wanted)
        counting.refused(wanted)


class TestResultBytes:
    def test_what_is_used_up_refuses_the_next_call(self, counting: Counting) -> None:
        wanted = reservation("result_bytes", 100)
        taken = counting.taken(wanted)
        taken.charge(99)
        taken.end()
        counting.clock.now += 1
        last = counting.taken(wanted)
        last.charge(500)
        last.end()
        assert "they are used up; try again in 60 seconds" in counting.refused(wanted).reason
        counting.clock.now += 60
        counting.taken(wanted)

    def test_an_answer_counts_however_long_it_took(self, counting: Counting) -> None:
        wanted = reservation("result_bytes", 100)
        taken = counting.taken(wanted)
        for number in range(5_000):  # so many others that counters of nothing are dropped
            counting.taken(reservation("in_flight", rule=f"r{number}")).end()
        taken.charge(100)
        counting.refused(wanted)


class TestTogether:
    def test_a_call_takes_all_or_nothing(self, counting: Counting) -> None:
        counting.taken(reservation("in_flight", 1, rule="one"))
        before = sorted(counting.standing)
        counting.refused(reservation(), reservation("in_flight", 1, rule="one"))
        assert sorted(counting.standing) == [0, *before]

    def test_the_limit_that_takes_longest_is_named(self, counting: Counting) -> None:
        minute, hour = reservation(amount=1), reservation(amount=1, period_s=3_600, rule="hourly")
        parallel = reservation("in_flight", 1, rule="one")
        counting.taken(minute, hour, parallel)
        for order in ((parallel, minute, hour), (hour, minute, parallel)):
            assert counting.refused(*order).rule == "hourly"
        counting.clock.now += 59.5
        for other in ((parallel, minute), (minute, parallel)):
            assert counting.refused(*other).rule == "few"

    def test_of_limits_that_are_free_at_once_the_first_is_named(self, counting: Counting) -> None:
        both = (reservation("in_flight", 1, rule="a"), reservation("in_flight", 1, rule="b"))
        counting.taken(*both)
        assert counting.refused(*both).rule == "a"

    def test_a_task_is_refused_where_its_end_or_result_matter(self, counting: Counting) -> None:
        verdict, taken = counting.decide(reservation("in_flight"), as_task=True)
        assert verdict.refuses
        assert taken is None
        assert "without a task" in verdict.reason
        verdict, taken = counting.decide(reservation(), as_task=True)
        assert verdict.allows

    def test_an_observed_limit_refuses_nothing_and_counts_as_if_it_did(
        self, counting: Counting
    ) -> None:
        seen = reservation(amount=1, rule="seen", enforced=False)
        kept = reservation(amount=3)
        counting.taken(seen, kept)
        for _ in range(2):
            verdict, taken = counting.decide(seen, kept)
            assert (verdict.effect, verdict.rule, verdict.enforced) == ("deny", "seen", False)
            assert taken is not None
            taken.sent = True
        assert sorted(counting.standing) == [1, 3]
        assert counting.refused(seen, kept).rule == "few"

    def test_counters_of_nothing_are_not_kept(self, counting: Counting) -> None:
        for number in range(10_000):
            counting.taken(reservation("in_flight", rule=f"r{number}")).end()
        assert len(counting.standing) < 3_000


_steps = st.lists(
    st.tuples(st.floats(0, 40, allow_nan=False), st.integers(1, 5)), min_size=1, max_size=60
)


@given(_steps, st.integers(1, 8), st.integers(1, 100))
def test_there_is_never_more_than_the_limit_in_any_window(
    steps: Sequence[tuple[float, int]], amount: int, period_s: int
) -> None:
    counting = Counting()
    went: list[float] = []
    for pause, tries in steps:
        counting.clock.now += pause
        for _ in range(tries):
            verdict, taken = counting.decide(reservation(amount=amount, period_s=period_s))
            if taken is not None:
                taken.sent = True
                went.append(counting.clock.now)
            else:
                # What it says is enough, and no more than the thousandth that windows are cut by.
                wait = int(verdict.reason.split()[-2])
                free = went[-amount] + period_s - counting.clock.now
                assert free - 1e-6 <= wait <= free + period_s / 1_000 + 1 + 1e-6
    for time in went:
        # A call that came a whole period earlier counts no more.
        inside = [each for each in went if time - period_s + 1e-6 < each <= time]
        assert len(inside) <= amount


@given(st.lists(st.sampled_from(("begin", "answer", "cancel", "unsent", "again")), max_size=80))
def test_nothing_stays_in_flight_after_any_mix_of_ends(steps: Sequence[str]) -> None:
    counting = Counting()
    wanted = (reservation("in_flight", 4), reservation("result_bytes", 10**6), reservation())
    open_calls: list[Taken] = []
    ended: list[Taken] = []
    for step in steps:
        if step == "begin":
            before = len(open_calls)
            verdict, taken = counting.decide(*wanted)
            assert (taken is None) == verdict.refuses
            if taken is not None:
                assert before < 4
                open_calls.append(taken)
        elif step == "again" and ended:
            ended[-1].end()
        elif open_calls and step in ("answer", "cancel", "unsent"):
            taken = open_calls.pop(0)
            taken.sent = step != "unsent"
            if step == "answer":
                taken.charge(10)
            taken.end()
            ended.append(taken)
        flight = [s.used for s in counting.limiting.standings() if s.counter[1] == "in_flight"]
        assert flight in ([], [len(open_calls)])
    for taken in open_calls:
        taken.end()
    assert all(s.used == 0 for s in counting.limiting.standings() if s.counter[1] == "in_flight")


def test_a_window_keeps_few_entries_whatever_it_counts() -> None:
    window = Window(100)
    for number in range(100_000):
        window.at(number / 500)
        window.add(number / 500, 1)
    assert 50_000 <= window.used <= 50_100
    assert 900 <= len(window._entries) <= 1_002
