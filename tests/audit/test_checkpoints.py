"""What was signed cannot be changed without anybody seeing it."""

import asyncio
import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.audit import anchors
from gateway.audit.anchors import AnchorFailed, CommandAnchor, FileAnchor, WebhookAnchor
from gateway.audit.checkpoint_files import Kept, read_checkpoints, read_kept
from gateway.audit.checkpoints import Checkpoints
from gateway.audit.errors import AuditUnavailable
from gateway.audit.files import checkpoints_file
from gateway.audit.journal import Journal
from gateway.audit.notes import Signer, parse_note
from gateway.audit.segments import SegmentLimits
from gateway.audit.signing_keys import (
    create_key,
    own_signer,
    read_verifiers,
    signing_key_file,
    verifiers_file,
)
from gateway.audit.verify.findings import Report
from gateway.audit.verify.verification import Anchored, verify
from gateway.errors import UserError
from tests.audit import independent
from tests.audit.samples import decision, journals, outcome, verified
from tests.audit.test_verify import flipped, lines_of, put, tampering


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    (tmp_path / "log").mkdir(mode=0o700)
    return create_key(tmp_path / "log", "example.com/audit")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def write(log: Path, signer: Signer, calls: int = 6, **options: Any) -> Path:
    journal = Journal.open(
        log, durability="process", checkpoints=Checkpoints(log, [signer], **options)
    )
    for number in range(calls):
        record = decision(name=f"call-{number}")
        journal.append(record)
        journal.append(outcome(record.call))
    journal.close()
    return log / "journal" / f"{journal.writer}.jsonl"


def report_on(log: Path, *more: Path) -> Report:
    files = [path for path in (checkpoints_file(log), *more) if path.exists()]
    notes = [Anchored(note, path.name) for path in files for note, _ in read_checkpoints(path)]
    return verify(log, read_verifiers(verifiers_file(log)), notes)


def keys_of(log: Path) -> list[str]:
    return verifiers_file(log).read_text().splitlines()


def test_a_closed_journal_is_signed_to_its_end(log: Path, signer: Signer) -> None:
    path = write(log, signer)
    *_, closing, checkpoint = verified(path)
    assert (closing["event"], checkpoint["event"]) == ("journal.closed", "checkpoint")
    assert checkpoint["data"]["size"] == closing["seq"] == 14
    [(note, _)] = read_checkpoints(checkpoints_file(log))
    assert note == checkpoint["data"]["note"]
    assert note.startswith(f"example.com/audit/{path.stem}\n14\n")
    report = report_on(log)
    assert report.findings == ()
    [journal] = report.journals
    assert (journal.state, journal.checkpoints, journal.signed_records) == ("closed", 1, 14)
    assert report.keys == (f"example.com/audit+{signer.verifier().key_id.hex()}",)
    assert independent.verify(log, keys_of(log)) == []


def test_it_is_signed_again_and_again(log: Path, signer: Signer) -> None:
    async def scenario(durability: Any) -> None:
        checkpoints = Checkpoints(log, [signer], every_records=10, every_s=0.01)
        journal = Journal.open(log, durability=durability, checkpoints=checkpoints)
        for _ in range(5):
            for _ in range(12):
                journal.append(decision(decision="deny"), lambda _: None)
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.1)  # idle: what is signed is not signed again
        journal.close()

    for durability in ("process", "power"):
        asyncio.run(scenario(durability))
    for path in journals(log):
        sizes = [
            record["data"]["size"]
            for record in verified(path)
            if record.get("event") == "checkpoint"
        ]
        assert 4 <= len(sizes) <= 12
        assert all(
            record["seq"] == record["data"]["size"] + 1
            for record in verified(path)
            if record.get("event") == "checkpoint"
        )
    report = report_on(log)
    assert report.findings == ()
    assert report.journals[0].checkpoints >= 4
    assert independent.verify(log, keys_of(log)) == []


@pytest.mark.parametrize("durability", ["process", "power"])
def test_nothing_comes_between_what_is_signed_and_its_note(
    log: Path, signer: Signer, durability: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a new segment nor a gap."""
    write_all = os.write

    def full(descriptor: int, data: bytes) -> int:
        if b'"name":"lost"' in data:
            raise OSError(28, "No space left on device")
        return write_all(descriptor, data)

    async def scenario() -> None:
        journal = Journal.open(
            log,
            durability=durability,
            checkpoints=Checkpoints(log, [signer]),
            segments=SegmentLimits(max_bytes=2000),
        )
        for number in range(12):
            journal.append(decision(decision="deny"), lambda _: None)
            if number % 3 == 0:
                journal.append(decision(name="lost"), lambda _: None)
            await asyncio.sleep(0.01)
            journal.checkpoint()
        journal.close()

    monkeypatch.setattr("gateway.audit.journal.os.write", full)
    monkeypatch.setattr("gateway.audit.journal.compress_aside", lambda path: None)
    asyncio.run(scenario())
    report = report_on(log)
    assert {each.code for each in report.findings} == {"gap"}
    assert report.journals[0].checkpoints == 13
    assert report.journals[0].segments > 3
    assert independent.verify(log, keys_of(log)) == []


def test_a_cut_end_is_found_by_the_checkpoint_beside_the_journals(
    log: Path, signer: Signer
) -> None:
    path = write(log, signer)
    put(path, lines_of(path)[:-3])
    assert tampering(report_on(log)) == [("truncated", path.stem)]


def test_a_cut_end_and_a_cut_file_of_checkpoints_are_found_by_an_anchor(
    log: Path, signer: Signer, tmp_path: Path
) -> None:
    anchor = tmp_path / "elsewhere.jsonl"
    path = write(log, signer, anchors=[FileAnchor(anchor)])
    put(path, lines_of(path)[:-3])
    checkpoints_file(log).unlink()
    assert report_on(log).clean  # what the docs say cannot be found
    assert tampering(report_on(log, anchor)) == [("truncated", path.stem)]
    path.unlink()
    assert tampering(report_on(log, anchor)) == [("missing-journal", path.stem)]


def test_a_journal_that_was_written_anew_does_not_have_the_signed_root(
    log: Path, signer: Signer
) -> None:
    from tests.audit.test_verify import rewritten

    path = write(log, signer)

    def change(number: int, record: dict[str, Any]) -> None:
        if number == 4:
            record["name"] = "harmless"

    rewritten(path, change)
    assert tampering(report_on(log)) == [("rewritten", path.stem)]
    assert independent.verify(log, keys_of(log)) != []


def test_a_changed_checkpoint_and_one_of_an_unknown_key(log: Path, signer: Signer) -> None:
    write(log, signer)
    file = checkpoints_file(log)
    text = file.read_text()
    file.write_text(text.replace("\\n14\\n", "\\n13\\n"))
    assert [code for code, _ in tampering(report_on(log))] == ["bad-signature"]
    file.write_text(text)
    verifiers_file(log).write_text(Signer.generate("example.com/audit").verifier().text() + "\n")
    report = report_on(log)
    assert report.clean
    assert [each.code for each in report.findings] == ["unknown-key"]
    assert report.journals[0].signed_records == 0


def test_a_flipped_record_under_checkpoints_is_named_once(log: Path, signer: Signer) -> None:
    path = write(log, signer)
    flipped(path, 4)
    assert tampering(report_on(log)) == [("changed", path.stem)]


def test_a_new_key_is_introduced_by_the_old_one(log: Path, signer: Signer) -> None:
    write(log, signer)
    with pytest.raises(UserError, match="already"):
        create_key(log, "example.com/audit")
    second = create_key(log, "example.com/audit", replace=True)
    write(log, second)
    again = own_signer(log)
    assert again is not None
    assert again.verifier() == second.verifier()
    report = report_on(log)
    assert report.findings == ()
    assert len(report.keys) == 2


def test_a_key_that_others_can_read_is_refused(log: Path, signer: Signer) -> None:
    signing_key_file(log).chmod(0o644)
    with pytest.raises(UserError, match="other users can read"):
        own_signer(log)
    signing_key_file(log).chmod(0o600)
    signing_key_file(log).write_text("PRIVATE+KEY+secret\n")
    with pytest.raises(UserError) as raised:
        own_signer(log)
    assert "secret" not in str(raised.value)


def test_a_damaged_key_is_told_in_the_journal_and_stops_nothing(log: Path, signer: Signer) -> None:
    name, key_id, key = signer.text().removeprefix("PRIVATE+KEY+").split("+", 2)
    damaged = Signer.parse(f"PRIVATE+KEY+{name}+{int(key_id, 16) ^ 1:08x}+{key}")
    path = write(log, damaged)
    events = [record.get("event") for record in verified(path)]
    assert events[-2:] == ["journal.closed", "checkpoint.failed"]


def test_nothing_is_loaded_for_it_before_there_is_something_to_sign(log: Path) -> None:
    create_key(log.parent / "other", "a")
    code = """
import sys
from pathlib import Path
from gateway.audit.checkpoints import Checkpoints
from gateway.audit.journal import Journal
from gateway.audit.signing_keys import own_signer
from tests.audit.samples import decision
log = Path(sys.argv[1])
journal = Journal.open(log, durability="process", checkpoints=Checkpoints(log, [own_signer(log)]))
journal.append(decision())
before = sorted(name for name in ("cryptography", "asyncio", "gzip") if name in sys.modules)
journal.close()
print(before, "cryptography" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(log.parent / "other")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[] True\n"


class Failing:
    """An anchor that takes nothing for a while."""

    name = "failing"

    def __init__(self, times: int) -> None:
        self.times = times
        self.kept: list[Kept] = []

    def keep(self, kept: Kept) -> None:
        self.kept.append(kept)
        if len(self.kept) <= self.times:
            raise AnchorFailed("it is away")


def test_an_anchor_that_fails_is_told_once_and_stops_nothing(log: Path, signer: Signer) -> None:
    failing = Failing(3)

    async def scenario() -> None:
        checkpoints = Checkpoints(log, [signer], every_records=1, anchors=[failing])
        journal = Journal.open(log, durability="process", checkpoints=checkpoints)
        while len(failing.kept) < 5:
            journal.append(decision(decision="deny"))
            assert journal.writable
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.05)
        journal.close()

    asyncio.run(scenario())
    [path] = journals(log)
    told = [record for record in verified(path) if str(record.get("event")).startswith("anchor.")]
    assert [record["event"] for record in told] == ["anchor.failed", "anchor.recovered"]
    assert told[0]["data"]["reason"] == "it is away"
    assert [kept.failed for kept in read_kept(checkpoints_file(log)) if kept.anchor] == [
        "it is away"
    ]
    report = report_on(log)
    assert report.clean
    assert [each.code for each in report.findings] == ["anchor-failed"]


class Slow:
    """An anchor that takes its time."""

    name = "slow"

    def __init__(self) -> None:
        self.at_work = threading.Event()
        self.let_go = threading.Event()

    def keep(self, kept: Kept) -> None:
        self.at_work.set()
        assert self.let_go.wait(60)


def test_an_anchor_that_does_not_answer_before_the_end_is_told(
    log: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anchors, "CLOSING_TIMEOUT_S", 1.0)
    slow = Slow()
    checkpoints = Checkpoints(log, [signer], anchors=[slow])
    journal = Journal.open(log, durability="process", checkpoints=checkpoints)
    journal.append(decision())
    journal.close()
    assert slow.at_work.wait(10)
    told = [(each.anchor, each.failed) for each in read_kept(checkpoints_file(log)) if each.failed]
    slow.let_go.set()
    assert told == [("slow", "the gateway ended before it answered")]


def kept() -> Kept:
    return Kept(time="t", journal="w", size=7, note="o\n7\nr\n\n\u2014 a b\n")


def test_a_command_is_given_the_note(tmp_path: Path) -> None:
    out = tmp_path / "out"
    program = (
        "import os, sys; open(sys.argv[1], 'w').write(os.environ['AUDIT_SIZE'] + sys.stdin.read())"
    )
    argv = (sys.executable, "-c", program, str(out))
    CommandAnchor(argv, tmp_path, {"PYTHONUTF8": "1"}).keep(kept())
    assert out.read_text(encoding="utf-8") == f"7{kept().note}"
    for wrong, told in (
        ((sys.executable, "-c", "raise SystemExit(3)"), "status 3"),
        (("/nonexistent/program", "secret"), "No such file"),
    ):
        anchor = CommandAnchor(wrong, tmp_path, {})
        with pytest.raises(AnchorFailed, match=told):
            anchor.keep(kept())
        assert "secret" not in anchor.name


@contextmanager
def receiver(status: int) -> Iterator[tuple[str, list[Any]]]:
    received: list[Any] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append((self.headers, body.decode()))
            self.send_response(status)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/hook?token=secret", received
        finally:
            server.shutdown()
            thread.join()


def test_a_webhook_is_posted_the_note() -> None:
    with receiver(204) as (url, received):
        WebhookAnchor(url, {"Authorization": "Bearer x"}).keep(kept())
    [(headers, body)] = received
    assert body == kept().note
    assert (headers["Authorization"], headers["Audit-Size"]) == ("Bearer x", "7")


@pytest.mark.parametrize("status", [302, 404, 500])
def test_a_webhook_that_answers_anything_else_has_not_kept_it(status: int) -> None:
    with receiver(status) as (url, received):
        anchor = WebhookAnchor(url, {})
        with pytest.raises(AnchorFailed, match=f"answered {status}") as raised:
            anchor.keep(kept())
    assert len(received) == 1
    assert "secret" not in f"{raised.value}{anchor.name}"
    with pytest.raises(AnchorFailed, match="could not be reached") as raised:
        anchor.keep(kept())
    assert "secret" not in str(raised.value)


def test_files_of_checkpoints_in_both_forms(log: Path, signer: Signer, tmp_path: Path) -> None:
    for _ in range(3):
        write(log, signer)
    beside = read_checkpoints(checkpoints_file(log))
    plain = tmp_path / "notes"
    plain.write_text("\n".join(note for note, _ in beside), encoding="utf-8")
    assert [note for note, _ in read_checkpoints(plain)] == [note for note, _ in beside]
    assert [line for _, line in beside] == [1, 2, 3]
    assert [line for _, line in read_checkpoints(plain)] == [1, 7, 13]
    with checkpoints_file(log).open("ab") as file:
        file.write(b'{"torn')
    assert read_checkpoints(checkpoints_file(log)) == beside
    assert all(parse_note(note).signed_by([signer.verifier()]) for note, _ in beside)


def test_a_journal_that_cannot_be_written_is_not_signed(log: Path, signer: Signer) -> None:
    journal = Journal.open(log, durability="process", checkpoints=Checkpoints(log, [signer]))
    journal.append(decision())
    journal.close()
    size = len(read_checkpoints(checkpoints_file(log)))
    with pytest.raises(AuditUnavailable):
        journal.append(decision())
    journal.checkpoint()
    assert len(read_checkpoints(checkpoints_file(log))) == size
