"""Whoever changes the log is found out; whoever is killed is not blamed."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from gateway.audit.journal import Journal
from gateway.audit.shared_journal import SharedJournal
from gateway.audit.verify import parts
from gateway.audit.verify.findings import Finding, Report
from gateway.audit.verify.verification import verify
from tests.audit.samples import decision, outcome

CALLS = 6


def write(directory: Path, calls: int = CALLS) -> Path:
    """A journal of so many calls, closed."""
    journal = Journal.open(directory, durability="process")
    for number in range(calls):
        record = decision(name=f"call-{number}")
        journal.append(record)
        journal.append(outcome(record.call))
    journal.close()
    return directory / "journal" / f"{journal.writer}.jsonl"


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def put(path: Path, lines: list[bytes]) -> None:
    path.write_bytes(b"".join(lines))


def byte_of(path: Path, line: int) -> int:
    return sum(map(len, lines_of(path)[: line - 1]))


def tampering(report: Report) -> list[tuple[str, str]]:
    return [(each.code, each.journal) for each in report.findings if each.severity == "tampering"]


def only(report: Report) -> Finding:
    [finding] = [each for each in report.findings if each.severity == "tampering"]
    return finding


def test_what_the_gateway_writes_is_whole(tmp_path: Path) -> None:
    for _ in range(4):
        write(tmp_path)
    SharedJournal.open(tmp_path, durability="process").append(decision(method="PreToolUse"))
    report = verify(tmp_path)
    assert report.findings == ()
    assert report.clean
    assert report.records == 4 * (2 * CALLS + 2) + 2
    assert sorted(journal.state for journal in report.journals) == ["closed"] * 4 + ["shared"]


def flipped(path: Path, line: int, old: bytes = b'"call-1"', new: bytes = b'"call-9"') -> None:
    lines = lines_of(path)
    assert old in lines[line - 1]
    lines[line - 1] = lines[line - 1].replace(old, new)
    put(path, lines)


def test_one_changed_byte_names_the_record(tmp_path: Path) -> None:
    path = write(tmp_path)
    flipped(path, 4)
    finding = only(verify(tmp_path))
    assert (finding.code, finding.seq, finding.line) == ("changed", 4, 4)
    assert finding.file == path.name
    assert finding.byte == byte_of(path, 4)
    assert "record 4" in finding.message


@pytest.mark.parametrize("line", range(1, 2 * CALLS + 2))
@pytest.mark.parametrize("where", ["text", "prev", "seq", "brace"])
def test_a_changed_byte_anywhere_but_in_the_last_record_names_it(
    tmp_path: Path, line: int, where: str
) -> None:
    path = write(tmp_path)
    lines = lines_of(path)
    text = lines[line - 1]
    place = {
        "text": text.index(b'"time":"2') + 9,
        "prev": text.index(b'"prev":"') + 8,
        "seq": text.index(b'"seq":') + 6,
        "brace": 0,
    }[where]
    new = b"3" if text[place : place + 1] != b"3" else b"4"
    lines[line - 1] = text[:place] + new + text[place + 1 :]
    put(path, lines)
    finding = only(verify(tmp_path))
    assert finding.line == line
    expected = ("damaged", 0) if where == "brace" else ("changed", line)
    assert (finding.code, finding.seq) == expected


def test_a_deleted_record_is_missed(tmp_path: Path) -> None:
    path = write(tmp_path)
    lines = lines_of(path)
    put(path, lines[:5] + lines[7:])
    finding = only(verify(tmp_path))
    assert (finding.code, finding.line) == ("missing", 6)
    assert finding.message == "records 6 to 7 are missing before it"


def test_the_first_record_is_missed_too(tmp_path: Path) -> None:
    path = write(tmp_path)
    put(path, lines_of(path)[1:])
    finding = only(verify(tmp_path))
    assert (finding.code, finding.line, finding.seq) == ("missing", 1, 2)


@pytest.mark.parametrize(("first", "second"), [(3, 4), (3, 8)])
def test_swapped_records_are_named(tmp_path: Path, first: int, second: int) -> None:
    path = write(tmp_path)
    lines = lines_of(path)
    lines[first - 1], lines[second - 1] = lines[second - 1], lines[first - 1]
    put(path, lines)
    finding = only(verify(tmp_path))
    assert finding.line == first
    assert finding.code in ("out-of-order", "missing")
    assert f"record {second}" in finding.message or finding.seq == second


def test_a_record_twice_and_one_of_another_journal(tmp_path: Path) -> None:
    first, second = write(tmp_path), write(tmp_path)
    lines = lines_of(first)
    put(first, [*lines[:4], lines[3], *lines[4:]])
    finding = only(verify(tmp_path))
    assert (finding.code, finding.line) == ("out-of-order", 5)
    put(first, lines[:4] + lines_of(second)[4:5] + lines[5:])
    finding = only(verify(tmp_path))
    assert (finding.code, finding.line) == ("foreign", 5)


def test_a_deleted_journal_is_missed_by_the_next_one(tmp_path: Path) -> None:
    path = write(tmp_path)
    write(tmp_path)
    path.unlink()
    finding = only(verify(tmp_path))
    assert (finding.code, finding.journal) == ("missing-journal", path.stem)
    assert f"had {2 * CALLS + 2} records" in finding.message


def test_a_cut_end_is_missed_by_the_next_journal(tmp_path: Path) -> None:
    path = write(tmp_path)
    write(tmp_path)
    put(path, lines_of(path)[:-3])
    finding = only(verify(tmp_path))
    assert (finding.code, finding.journal, finding.seq) == ("truncated", path.stem, 2 * CALLS - 1)
    path.write_bytes(b"")
    assert tampering(verify(tmp_path)) == [("truncated", path.stem)]


def test_a_cut_end_that_nobody_spoke_of_is_a_killed_writers(tmp_path: Path) -> None:
    """What the docs say cannot be found without a checkpoint that is kept elsewhere."""
    path = write(tmp_path)
    put(path, lines_of(path)[:-2])
    report = verify(tmp_path)
    assert report.clean
    assert [each.code for each in report.findings] == ["unclosed", "outcome-unknown"]


def rewritten(path: Path, change: Callable[[int, dict[str, Any]], None]) -> None:
    """What somebody does who can compute hashes."""
    lines, prev = [], "0" * 64
    for number, line in enumerate(lines_of(path), 1):
        record = json.loads(line)
        change(number, record)
        record["prev"] = prev
        encoded = json.dumps(
            record, sort_keys=True, separators=(",", ":"), ensure_ascii=False
        ).encode()
        prev = sha256(encoded).hexdigest()
        lines.append(encoded + b"\n")
    put(path, lines)


def test_a_journal_that_was_written_anew_is_not_the_one_that_the_next_one_saw(
    tmp_path: Path,
) -> None:
    path = write(tmp_path)

    def change(number: int, record: dict[str, Any]) -> None:
        if number == 4:
            record["name"] = "harmless"

    rewritten(path, change)
    assert verify(tmp_path).findings == ()  # nobody can know yet
    directory = tmp_path / "another"
    path = write(directory)
    write(directory)
    rewritten(path, change)
    finding = only(verify(directory))
    assert (finding.code, finding.journal) == ("rewritten", path.stem)


def test_the_last_record_changed_is_found_by_the_next_journal(tmp_path: Path) -> None:
    path = write(tmp_path)
    write(tmp_path)
    flipped(path, 2 * CALLS + 2, b"journal.closed", b"journal.klosed")
    finding = only(verify(tmp_path))
    assert (finding.code, finding.seq) == ("rewritten", 2 * CALLS + 2)


def test_a_torn_tail_is_a_killed_writers(tmp_path: Path) -> None:
    path = write(tmp_path)
    lines = lines_of(path)
    put(path, [*lines[:5], lines[5][:40]])
    report = verify(tmp_path)
    assert report.clean
    assert [each.code for each in report.findings] == ["torn-tail", "unclosed"]


def test_a_call_without_an_outcome_is_told(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, durability="process")
    lost, refused, observed = decision(), decision(decision="deny"), decision(decision="ask")
    observed = decision(decision="deny", enforced=False)
    for record in (lost, refused, observed):
        journal.append(record)
    under_way = verify(tmp_path)
    assert [each.code for each in under_way.findings] == ["under-way"]
    journal.close()
    report = verify(tmp_path)
    [finding] = report.findings
    assert (finding.code, finding.severity, report.unknown_outcomes) == (
        "outcome-unknown",
        "crash",
        2,
    )
    assert lost.call in finding.message
    assert refused.call not in finding.message


def test_an_outcome_in_the_journal_that_succeeded_counts(tmp_path: Path) -> None:
    first, second = (Journal.open(tmp_path, durability="process") for _ in range(2))
    record = decision()
    first.append(record)
    second.append(outcome(record.call))
    first.close()
    second.close()
    assert verify(tmp_path).findings == ()


def test_a_log_that_grows_meanwhile_is_whole(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom tests.audit.test_verify import write\n"
        "for _ in range(40): write(Path(sys.argv[1]), 20)\n"
    )
    write(tmp_path)
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    rounds = 0
    while process.poll() is None:
        assert verify(tmp_path).clean
        rounds += 1
    assert process.returncode == 0
    assert rounds > 0
    assert verify(tmp_path).findings == ()


def test_parts_that_are_read_by_several_processes_are_one_chain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, 400)
    whole = verify(tmp_path)
    monkeypatch.setattr(parts, "PART_BYTES", 20_000)
    assert verify(tmp_path, processes=2) == whole
    assert len(list(parts.boundaries(path))) > 5
    flipped(path, 400, b'"kind"', b'"kinD"')
    finding = only(verify(tmp_path))
    assert (finding.line, finding.byte) == (400, byte_of(path, 400))
    put(path, lines_of(path)[:200] + lines_of(path)[300:])
    finding = only(verify(tmp_path))
    assert finding.message.startswith("records 201 to 300 are missing before it")


@pytest.mark.parametrize("content", [b"\n", b"\x00" * 100, b"[]\n" * 3, b'"' + b"x" * 5_000_000])
def test_a_file_of_anything_is_no_journal(tmp_path: Path, content: bytes) -> None:
    write(tmp_path).with_name("x.jsonl").write_bytes(content)
    report = verify(tmp_path)
    assert {each.journal for each in report.findings} == {"x"}


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path)
    (path.parent / "deleted.jsonl").symlink_to(path)  # links are no journals
    assert verify(tmp_path).findings == ()
    if os.geteuid() != 0:
        path.chmod(0)
        with pytest.raises(PermissionError):
            verify(tmp_path)
