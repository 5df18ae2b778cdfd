import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit.latency import duration_of, percentiles, slot_of

durations = st.integers(0, 2**53 - 1)


@given(durations)
def test_a_slot_stands_for_its_durations_to_1_6_per_cent(duration_us: int) -> None:
    slot = slot_of(duration_us)
    assert duration_of(slot) == pytest.approx(duration_us, rel=0.016)
    assert slot_of(duration_of(slot)) == slot


@given(durations, durations)
def test_longer_durations_have_greater_slots(one: int, other: int) -> None:
    assert (slot_of(one) <= slot_of(other)) == (one <= other) or slot_of(one) == slot_of(other)


@given(st.lists(durations, min_size=1), st.sampled_from([0.5, 0.95, 0.99, 1.0]))
def test_a_percentile_is_the_duration_that_so_many_do_not_exceed(
    taken: list[int], fraction: float
) -> None:
    (found,) = percentiles([(slot_of(each), 1) for each in taken], fraction)
    exact = next(
        each for count, each in enumerate(sorted(taken), 1) if count >= fraction * len(taken)
    )
    assert found == pytest.approx(exact, rel=0.016)


def test_nothing_has_no_percentile() -> None:
    assert percentiles([], 0.5, 0.99) == [None, None]
