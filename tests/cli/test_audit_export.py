import csv
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.audit import sql_log
from gateway.audit.journal import Journal
from gateway.cli.audit import command
from gateway.cli.audit_export import CSV_COLUMNS
from gateway.errors import UserError
from tests.audit.samples import decision, outcome

FORMULAS = ["=1+1", "+1", "-1", "@x", " =1", "\uff1dx", "\t=1", "\n@x"]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Calls whose reasons are formulas, the last one with an outcome."""
    directory = tmp_path / "audit"
    journal = Journal.open(directory, durability="process")
    for reason in [*FORMULAS, 'a plain, "quoted"\x00 text \u202e']:
        record = decision(reason=reason, arguments={"level": "none"})
        journal.append(record)
    journal.append(outcome(record.call, error_code=-32000, status="error"))
    journal.close()
    return directory


def export(directory: Path, *arguments: str) -> Result:
    result = CliRunner().invoke(
        command, ["export", *arguments, "--directory", str(directory)], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    return result


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines(keepends=True)))


def test_json_lines_are_the_calls_of_the_list(log: Path) -> None:
    exported = [json.loads(line) for line in export(log).stdout.splitlines()]
    listed = CliRunner().invoke(command, ["list", "--json", "--directory", str(log)])
    assert exported == [json.loads(line) for line in listed.stdout.splitlines()]
    assert len(exported) == len(FORMULAS) + 1


def test_csv_has_the_documented_columns_and_no_formula(log: Path) -> None:
    text = export(log, "--format", "csv").stdout
    found = rows(text)
    assert tuple(found[0]) == CSV_COLUMNS
    for row in found:
        for cell in row.values():
            assert not cell.strip().startswith(("=", "+", "@", "\uff1d"))
    assert [row["reason"] for row in found[:4]] == ["'=1+1", "'+1", "'-1", "'@x"]
    last = found[-1]
    assert last["reason"] == 'a plain, "quoted"\\x00 text \\u202e'
    assert (last["status"], last["error_code"], last["enforced"]) == ("error", "-32000", "true")
    assert json.loads(last["arguments"]) == {"level": "none"}
    documented = (Path(__file__).parents[2] / "docs" / "audit-questions.md").read_text()
    for column in CSV_COLUMNS:
        assert f"`{column}`" in documented


def test_only_what_matches_is_exported(log: Path) -> None:
    result = export(log, "--agent", "nobody")
    assert result.stdout == ""
    assert "0 calls" in result.stderr


def test_more_calls_than_are_in_memory_at_once_are_exported_in_order(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = export(log).stdout
    monkeypatch.setattr(sql_log, "_PAGE", 2)
    assert export(log).stdout == whole


def test_a_file_is_the_owners_alone_and_whole_or_not_there(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_text("before")
    path.chmod(0o644)
    before = os.umask(0)
    try:
        export(log, "-o", str(path))
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == export(log).stdout

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(UserError, match="No space left"):
        export(log, "-o", str(path))
    assert path.read_text() == export(log).stdout
    assert sorted(each.name for each in tmp_path.iterdir()) == ["audit", "calls.jsonl"]


def test_a_device_is_not_replaced(log: Path) -> None:
    with pytest.raises(UserError, match="no regular file"):
        export(log, "-o", os.devnull)
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)
