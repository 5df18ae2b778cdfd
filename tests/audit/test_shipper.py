"""Copying to a store that nobody reaches: what waits is counted, whatever happens to the files."""

import queue
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.audit.postgres.address import Address
from gateway.audit.postgres.shipper import Shipper, Told
from gateway.audit.postgres.spool import SpoolLimits
from tests.e2e.inbox import PATIENCE_S


class Heard:
    """Is a Listener."""

    def __init__(self) -> None:
        self.told: queue.Queue[str | None] = queue.Queue()

    def happened(self, event: str, data: Told) -> None: ...

    def full(self, reason: str | None) -> None:
        self.told.put(reason)

    def next(self) -> str | None:
        return self.told.get(timeout=PATIENCE_S)


@pytest.fixture
def journals(tmp_path: Path) -> Path:
    (tmp_path / "journal").mkdir()
    return tmp_path / "journal"


@pytest.fixture
def heard(journals: Path) -> Iterator[Heard]:
    heard = Heard()
    limits = SpoolLimits(max_bytes=1000, max_age_s=3600.0)
    nowhere = Address("postgresql://127.0.0.1:1/none")
    shipper = Shipper(journals.parent, limits, lambda: nowhere, lambda: "w", heard)
    shipper.start()
    yield heard
    shipper.close(PATIENCE_S)


def test_nothing_is_recorded_while_it_cannot_be_seen_what_waits_and_the_bound_holds_afterwards(
    journals: Path, heard: Heard
) -> None:
    away = journals.with_name("away")
    journals.rename(away)
    journals.write_text("no directory")
    assert "cannot be found out" in (heard.next() or "")

    journals.unlink()
    away.rename(journals)
    assert heard.next() is None

    (journals / "w.jsonl").write_bytes(b"x" * 2000)
    assert heard.next() == "2000 bytes wait to be copied to the audit store"


def test_nothing_is_recorded_in_a_journal_that_was_deleted(journals: Path, heard: Heard) -> None:
    (journals / "w.jsonl").write_bytes(b"x" * 2000)
    assert heard.next() == "2000 bytes wait to be copied to the audit store"
    (journals / "w.jsonl").write_bytes(b"")
    assert heard.next() is None
    (journals / "w.jsonl").unlink()
    assert "was deleted" in (heard.next() or "")
