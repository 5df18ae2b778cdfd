"""How two runs of the suite are compared."""

import pytest

from tests.conformance.comparison import compare, count
from tests.conformance.suite import Check


def check(name: str, verdict: str, message: str = "") -> Check:
    scenario, _, identifier = name.partition(":")
    return Check(scenario, identifier, verdict, message)


def test_equal_runs_have_no_difference() -> None:
    run = [check("a:x", "SUCCESS"), check("a:y", "FAILURE"), check("b:x", "WARNING")]
    diff = compare(run, run)
    assert (diff.added, diff.mended, diff.lost) == ((), (), ())


def test_a_check_that_fails_only_through_is_added_with_its_message_and_not_lost_too() -> None:
    broken = check("a:x", "FAILURE", "it said no")
    diff = compare([check("a:x", "SUCCESS")], [broken])
    assert (diff.added, diff.mended, diff.lost) == ((broken,), (), ())


def test_a_check_that_fails_only_directly_is_mended() -> None:
    broken = check("a:x", "FAILURE")
    diff = compare([broken], [check("a:x", "SUCCESS")])
    assert (diff.added, diff.mended, diff.lost) == ((), (broken,), ())


@pytest.mark.parametrize("verdict", ["WARNING", "SKIPPED", "INFO"])
def test_a_pass_that_is_no_longer_decided_is_lost(verdict: str) -> None:
    passed = check("a:x", "SUCCESS")
    diff = compare([passed], [check("a:x", verdict)])
    assert (diff.added, diff.mended, diff.lost) == ((), (), (passed,))


def test_repeated_ids_are_matched_one_by_one() -> None:
    direct = [check("a:x", "FAILURE"), check("a:x", "SUCCESS"), check("a:x", "SUCCESS")]
    through = [check("a:x", "FAILURE"), check("a:x", "FAILURE", "second"), check("a:x", "SUCCESS")]
    diff = compare(direct, through)
    assert diff.added == (check("a:x", "FAILURE", "second"),)
    assert diff.lost == ()


def test_the_same_id_in_another_scenario_is_another_check() -> None:
    diff = compare(
        [check("a:x", "FAILURE"), check("b:x", "SUCCESS")],
        [check("a:x", "SUCCESS"), check("b:x", "FAILURE")],
    )
    assert [found.scenario for found in diff.added] == ["b"]
    assert [found.scenario for found in diff.mended] == ["a"]


def test_a_scenario_that_was_not_run_through_counts_as_one_failure() -> None:
    direct = [check("a:x", "SUCCESS"), check("b:x", "SUCCESS"), check("b:y", "SUCCESS")]
    diff = compare(direct, [check("a:x", "SUCCESS")])
    assert diff.added == (check("b:scenario", "FAILURE", "it was not run"),)
    assert diff.lost == ()


def test_a_scenario_that_was_given_up_counts_as_one_failure_and_mends_nothing() -> None:
    given_up = check("a:scenario", "FAILURE", "the suite gave it up")
    diff = compare([check("a:x", "SUCCESS"), check("a:y", "FAILURE")], [given_up])
    assert (diff.added, diff.mended, diff.lost) == ((given_up,), (), ())


def test_checks_are_counted_by_verdict() -> None:
    run = [check("a:x", "SUCCESS"), check("a:y", "FAILURE"), check("a:z", "SUCCESS")]
    assert (count(run, "SUCCESS"), count(run, "FAILURE"), count(run, "INFO")) == (2, 1, 0)
