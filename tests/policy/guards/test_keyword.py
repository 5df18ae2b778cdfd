"""Guards as keywords of a JSON Schema, in two passes where one is slow."""

import jsonschema_rs
import msgspec
import pytest

from gateway.policy.guards.keyword import Job, Verdicts, keyword

ROOTS = {"roots": ["/srv"]}


def _validator(schema: dict[str, object], verdicts: Verdicts) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(
        schema, keywords={name: keyword(name, verdicts) for name in ("sql", "path", "size")}
    )


def test_a_quick_guard_is_judged_in_its_place() -> None:
    verdicts = Verdicts()
    validator = _validator({"properties": {"file": {"path": ROOTS}}}, verdicts)
    assert verdicts.judge({}, lambda: validator.is_valid({"file": "/srv/a"}))
    assert not verdicts.judge({}, lambda: validator.is_valid({"file": "/etc/passwd"}))
    assert not verdicts.failed
    [error] = validator.iter_errors({"file": "/etc/passwd"})
    assert "The path lies outside the folders that are allowed." in error.message


def test_a_slow_guard_is_collected_and_then_judged_by_its_answer() -> None:
    verdicts = Verdicts()
    validator = _validator({"properties": {"query": {"sql": {"max_depth": 9}}}}, verdicts)
    arguments = {"query": "select 1"}
    jobs = verdicts.collect(lambda: validator.evaluate(arguments))
    assert [(job.guard, msgspec.json.decode(job.options), job.value) for job in jobs] == [
        ("sql", {"max_depth": 9}, b'"select 1"')
    ]
    assert verdicts.judge({jobs[0]: None}, lambda: validator.is_valid(arguments))
    assert not verdicts.judge({jobs[0]: "No."}, lambda: validator.is_valid(arguments))
    assert not verdicts.failed


def test_a_slow_guard_without_an_answer_fails_even_under_not() -> None:
    verdicts = Verdicts()
    schema: dict[str, object] = {"properties": {"query": {"not": {"sql": {}}}}}
    validator = _validator(schema, verdicts)
    verdicts.judge({}, lambda: validator.is_valid({"query": "select 1"}))
    assert verdicts.failed
    other = Job("sql", "{}", b'"select 2"')
    verdicts.judge({other: None}, lambda: validator.is_valid({"query": "select 1"}))
    assert verdicts.failed


def test_an_answer_is_for_one_pass_only() -> None:
    verdicts = Verdicts()
    validator = _validator({"sql": {}}, verdicts)
    [job] = verdicts.collect(lambda: validator.evaluate("select 1"))
    assert verdicts.judge({job: None}, lambda: validator.is_valid("select 1"))
    assert not verdicts.judge({}, lambda: validator.is_valid("select 1"))


@pytest.mark.parametrize("value", ["\ud800", 10**400])
def test_what_cannot_be_passed_on_fails(value: object) -> None:
    verdicts = Verdicts()
    guard_class = keyword("sql", verdicts)
    instance = guard_class({}, {}, [])
    with pytest.raises(ValueError, match="could not be examined"):
        verdicts.judge({}, lambda: instance.validate(value))
    assert verdicts.failed
