from pathlib import Path

from bench.audit.generate import generate
from bench.audit.measure import measure
from bench.audit.report import summary
from gateway.audit.calls import Filters
from gateway.audit.index import Index
from gateway.audit.verify.verification import verify


def told(directory: Path) -> list[tuple[str | None, ...]]:
    with Index.open(directory) as index:
        index.refresh()
        calls = index.calls(Filters(), lines=False)
    return [
        (call.decision.time, call.decision.call, call.decision.tool, call.status) for call in calls
    ]


def test_the_log_is_the_same_each_time_and_verifies(tmp_path: Path) -> None:
    written = generate(tmp_path / "one", 2000)
    generate(tmp_path / "other", 2000)
    assert abs(written.records - 2000) < 200
    first = told(tmp_path / "one")
    assert len(first) == written.calls
    assert first == told(tmp_path / "other")
    assert not [each for each in verify(tmp_path / "one").findings if each.severity == "tampering"]


def test_a_run_has_a_figure_for_each_question() -> None:
    results = measure(20_000, postgres=False, say=lambda _: None)
    assert results.same_after_deletion
    assert all(asked.answers for asked in results.index.asked)
    text = summary(results)
    for asked in results.index.asked:
        assert asked.question in text
