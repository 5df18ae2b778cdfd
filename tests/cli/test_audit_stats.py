import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.cells import cell_len

from gateway.audit.journal import Journal
from gateway.cli import drawing
from gateway.cli.audit import command
from tests.audit.samples import decision, line_of, outcome


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A day of calls, more of them in its second half, with names of all widths."""
    journal = Journal.open(tmp_path, durability="process")
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    for number in range(120):
        moment += timedelta(minutes=20 if number < 40 else 8)
        time = moment.isoformat(timespec="microseconds")[:-6] + "Z"
        record = decision(
            time=time,
            agent=["a", "\u6771\u4eac-\u6771\u4eac", "long-" * 20][number % 3],
            decision="deny" if number % 10 == 0 else "allow",
        )
        journal.append(record)
        if number % 10:
            journal.append(outcome(record.call, time=time, duration_us=1000 * number))
    journal.close()
    return tmp_path


def drawn(directory: Path, width: int, *arguments: str) -> str:
    result = CliRunner(env={"COLUMNS": str(width), "LINES": "24"}).invoke(
        command, ["stats", "--directory", str(directory), *arguments]
    )
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("width", [48, 60, 80, 81, 200])
def test_no_line_is_wider_than_the_terminal(log: Path, width: int) -> None:
    lines = drawn(log, width).splitlines()
    assert lines[0] == "120 calls, 10.0 % refused, 0 % failed"
    assert max(map(cell_len, lines[2:])) <= width


def test_the_line_of_calls_rises_where_there_are_more(log: Path) -> None:
    line = next(line for line in drawn(log, 80).splitlines() if line.startswith("calls"))
    values = ["▁▂▃▄▅▆▇█".index(character) for character in line.split()[1]]
    assert max(values[: len(values) // 2]) < min(values[-len(values) // 4 : -1])
    assert "max " in line


def test_the_figures_are_there_for_programs_too(log: Path) -> None:
    told = json.loads(drawn(log, 80, "--json"))
    assert told["calls"] == 120
    assert sum(each["calls"] for each in told["activity"]) == 120
    assert {each["name"] for each in told["agents"]} == {
        *("a", "\u6771\u4eac-\u6771\u4eac", "long-" * 20)
    }
    assert json.loads(drawn(log, 80, "--json", "--agent", "a"))["calls"] == 40


@pytest.mark.parametrize("times", [("t", "u"), ("2026-01-01T00:00", "9999-12-31T23:59:59Z")])
def test_times_that_nobody_can_reckon_with_are_drawn_nevertheless(
    tmp_path: Path, times: tuple[str, str]
) -> None:
    (tmp_path / "journal").mkdir()
    base = {"kind": "decision", "writer": "w", "seq": 1, "decision": "allow", "agent": "a"}
    lines = [line_of({**base, "time": time, "call": time}) for time in times]
    (tmp_path / "journal" / "a.jsonl").write_bytes(b"".join(lines))
    assert drawn(tmp_path, 80).startswith("2 calls")


def test_charts_start_at_nought_and_show_the_least_value() -> None:
    assert drawing.line([0, 1, 4, 8, None], blocks=True) == " ▁▄█ "
    assert drawing.line([0, 1, 4, 8, None], blocks=False) == " .=@ "
    assert drawing.line([], blocks=True) == ""
    assert drawing.line([0, None], blocks=True) == "  "


def test_bars_are_as_long_as_they_say() -> None:
    assert drawing.bar(8, 8, 10, blocks=True) == "█" * 10
    assert drawing.bar(4, 8, 10, blocks=True) == "█" * 5
    assert drawing.bar(1, 10_000, 10, blocks=True) == "▏"
    assert drawing.bar(1, 10_000, 10, blocks=False) == "#"
    assert drawing.bar(0, 8, 10, blocks=True) == drawing.bar(0, 0, 10, blocks=True) == ""


def test_blocks_are_for_encodings_that_have_them() -> None:
    assert drawing.can_draw("utf-8")
    assert not drawing.can_draw("ascii")
    assert not drawing.can_draw(None)


@pytest.mark.parametrize("text", ["short", "a rather long text", "\u6771\u4eac\u6771\u4eac"])
@pytest.mark.parametrize("width", [3, 4, 5, 30])
def test_a_text_is_fitted_into_its_cells(text: str, width: int) -> None:
    assert cell_len(drawing.fitted(text, width)) == width
