"""Everything that somebody may do to a log, and what verification says: docs/audit.md has it.

Each is done to the same log: three signed journals, the second of two segments, and a file of
checkpoints that was kept elsewhere. `known_by` says what is needed to find it.
"""

import json
import random
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.audit.anchors import FileAnchor
from gateway.audit.checkpoints import Checkpoints
from gateway.audit.files import checkpoints_file, journal_files
from gateway.audit.journal import Journal
from gateway.audit.records import encode_record, stamped
from gateway.audit.segments import SegmentLimits
from gateway.audit.signing_keys import create_key
from tests.audit import independent
from tests.audit.samples import decision, outcome
from tests.audit.test_checkpoints import keys_of, report_on
from tests.audit.test_verify import lines_of, put, rewritten


class Log(NamedTuple):
    directory: Path
    anchor: Path

    @property
    def journals(self) -> list[Path]:
        """The files: the first journal, the two segments of the second, the last journal."""
        return list(journal_files(self.directory).values())


def make(directory: Path) -> Log:
    directory.mkdir(mode=0o700)
    signer = create_key(directory, "example.com/audit")
    anchor = directory.parent / f"{directory.name}.anchored"
    for number in range(3):
        journal = Journal.open(
            directory,
            durability="process",
            segments=SegmentLimits(max_bytes=4000 if number == 1 else 1 << 20),
            checkpoints=Checkpoints(directory, [signer], anchors=[FileAnchor(anchor)]),
        )
        for _ in range(6):
            record = decision()
            journal.append(record)
            journal.append(outcome(record.call))
        journal.close()
    # By the order in which they were made, whatever the random ends of their names.
    return Log(directory, anchor)


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Log:
    monkeypatch.setattr("gateway.audit.journal.compress_aside", lambda path: None)
    names = iter("abcd")
    monkeypatch.setattr(
        "gateway.audit.journal.time.strftime", lambda *_: f"2026010{next(names)}T000000Z"
    )
    return make(tmp_path / "log")


def flip(path: Path, line: int, byte: int = 60) -> None:
    lines = lines_of(path)
    text = bytearray(lines[line - 1])
    text[byte] ^= 1
    lines[line - 1] = bytes(text)
    put(path, lines)


def without(path: Path, line: int) -> None:
    lines = lines_of(path)
    put(path, lines[: line - 1] + lines[line:])


def swap(path: Path, first: int, second: int) -> None:
    lines = lines_of(path)
    lines[first - 1], lines[second - 1] = lines[second - 1], lines[first - 1]
    put(path, lines)


def cut(path: Path, lines: int) -> None:
    put(path, lines_of(path)[:-lines])


def forget(log: Log, path: Path) -> None:
    """Take what is said of a journal out of the file of checkpoints beside the log."""
    file = checkpoints_file(log.directory)
    writer = path.name.split(".")[0].encode()
    put(file, [line for line in lines_of(file) if writer not in line])


def renamed_call(number: int, record: dict[str, object]) -> None:
    if number == 4:
        record["call"] = "another"


class Deed(NamedTuple):
    do: Callable[[Log], object]
    codes: set[str]
    known_by: str = "the log"


FIRST, SECOND, LAST = 0, 1, 3
DEEDS: Final = {
    "flip one byte": Deed(lambda log: flip(log.journals[FIRST], 5), {"changed", "damaged"}),
    "flip one byte of the last record": Deed(
        lambda log: flip(log.journals[FIRST], 15), {"rewritten", "damaged", "bad-signature"}
    ),
    "flip one byte of a compressed segment": Deed(
        lambda log: pack_and_flip(log.journals[SECOND]), {"unreadable", "missing", "changed"}
    ),
    "delete one record": Deed(lambda log: without(log.journals[FIRST], 5), {"missing"}),
    "delete the first record": Deed(lambda log: without(log.journals[FIRST], 1), {"missing"}),
    "delete one whole journal": Deed(lambda log: log.journals[FIRST].unlink(), {"missing-journal"}),
    "delete one segment": Deed(lambda log: log.journals[SECOND].unlink(), {"missing"}),
    "delete the last segment": Deed(lambda log: log.journals[2].unlink(), {"truncated"}),
    "add records to a journal that was closed": Deed(
        lambda log: append(log.journals[LAST]), {"appended"}
    ),
    "add records to a journal whose writer was gone": Deed(
        lambda log: (
            cut(log.journals[LAST], 2),
            forget(log, log.journals[LAST]),
            Journal.open(log.directory, durability="process").close(),
            append(log.journals[LAST]),
        ),
        {"appended"},
    ),
    "swap two records": Deed(lambda log: swap(log.journals[FIRST], 4, 5), {"out-of-order"}),
    "swap two that are far apart": Deed(
        lambda log: swap(log.journals[FIRST], 3, 9), {"out-of-order"}
    ),
    "swap two files": Deed(
        lambda log: exchange(log.journals[FIRST], log.journals[LAST]),
        {"foreign", "rewritten", "truncated", "missing"},
    ),
    "truncate the end": Deed(lambda log: cut(log.journals[FIRST], 3), {"truncated"}),
    "truncate the end of the newest journal": Deed(
        lambda log: cut(log.journals[LAST], 3), {"truncated"}
    ),
    "truncate the end and its last checkpoint": Deed(
        lambda log: (cut(log.journals[FIRST], 3), forget(log, log.journals[FIRST])), {"truncated"}
    ),
    "truncate the newest journal and its checkpoints": Deed(
        lambda log: (cut(log.journals[LAST], 3), forget(log, log.journals[LAST])),
        {"truncated"},
        "an anchor",
    ),
    "delete the newest journal": Deed(lambda log: log.journals[LAST].unlink(), {"missing-journal"}),
    "delete the newest journal and its checkpoints": Deed(
        lambda log: (forget(log, log.journals[LAST]), log.journals[LAST].unlink()),
        {"missing-journal"},
        "an anchor",
    ),
    "write a journal anew, with right hashes": Deed(
        lambda log: rewritten(log.journals[FIRST], renamed_call), {"rewritten", "bad-signature"}
    ),
    "write the newest anew, without what is signed": Deed(
        lambda log: (
            cut(log.journals[LAST], 1),
            rewritten(log.journals[LAST], renamed_call),
            forget(log, log.journals[LAST]),
        ),
        {"rewritten"},
        "an anchor",
    ),
    "delete everything but the anchor": Deed(
        lambda log: [path.unlink() for path in (*log.journals, checkpoints_file(log.directory))],
        {"missing-journal"},
        "an anchor",
    ),
}


def pack_and_flip(path: Path) -> None:
    from gateway.audit.segments import compress

    packed = compress(path)
    data = bytearray(packed.read_bytes())
    data[len(data) // 2] ^= 1
    packed.write_bytes(data)


def append(path: Path) -> None:
    """Add a record that follows from the last one."""
    last = lines_of(path)[-1].rstrip(b"\n")
    place = json.loads(last)
    made = stamped(
        decision(decision="deny"),
        writer=place["writer"],
        seq=place["seq"] + 1,
        prev=sha256(last).hexdigest(),
    )
    with path.open("ab") as file:
        file.write(encode_record(made) + b"\n")


def exchange(first: Path, second: Path) -> None:
    beside = first.with_name("beside")
    first.rename(beside)
    second.rename(first)
    beside.rename(second)


@pytest.mark.parametrize("deed", DEEDS)
def test_it_is_named(log: Log, deed: str) -> None:
    do, codes, known_by = DEEDS[deed]
    assert report_on(log.directory, log.anchor).findings == ()
    do(log)
    by_itself = report_on(log.directory)
    anchored = report_on(log.directory, log.anchor)
    if known_by == "an anchor":
        assert by_itself.clean  # as the docs say: nobody on this host can know
    else:
        assert not by_itself.clean
        first = next(each for each in by_itself.findings if each.severity == "tampering")
        assert first.code in codes
        assert first.journal
    assert not anchored.clean
    assert {each.code for each in anchored.findings} & codes


def test_a_log_and_its_files_are_as_the_deeds_take_them(log: Log) -> None:
    writers = [path.name.split("-")[0] for path in log.journals]
    assert writers == ["2026010aT000000Z", *["2026010bT000000Z"] * 2, "2026010cT000000Z"]
    assert independent.verify(log.directory, keys_of(log.directory)) == []


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Log:
    """One log for all examples, whose files are put back after each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gateway.audit.journal.compress_aside", lambda path: None)
        names = iter("abcd")
        patch.setattr(
            "gateway.audit.journal.time.strftime", lambda *_: f"2026010{next(names)}T000000Z"
        )
        return make(tmp_path_factory.mktemp("tampering") / "log")


CHANGES = st.sampled_from(["flip", "insert", "delete", "duplicate", "zero"])


@given(CHANGES, st.integers(0, 2), st.integers(0, 2**32))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_change_to_a_file_that_others_speak_of_goes_unnoticed(
    kept: Log, change: str, file: int, seed: int
) -> None:
    path = kept.journals[file]
    before = path.read_bytes()
    chance = random.Random(seed)
    at = chance.randrange(len(before))
    size = chance.choice([1, 1, 7, 400, 4000])
    data = bytearray(before)
    if change == "flip":
        data[at] ^= 1 << chance.randrange(8)
    elif change == "insert":
        data[at:at] = chance.randbytes(size)
    elif change == "delete":
        del data[at : at + size]
    elif change == "duplicate":
        data[at:at] = data[at : at + size]
    else:
        data[at : at + size] = bytes(len(data[at : at + size]))
    if bytes(data) == before:
        return
    try:
        path.write_bytes(data)
        assert not report_on(kept.directory).clean
    finally:
        path.write_bytes(before)
