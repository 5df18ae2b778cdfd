"""One request, one answer that counts, whoever gives it how often; what is odd is no approval."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.approvals.request import Answer, Request
from gateway.approvals.store import KEEP_S, MAX_FILE_BYTES, Odd, Store
from gateway.errors import UserError
from tests.approvals.samples import request


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "approvals"


@pytest.fixture
def store(directory: Path) -> Store:
    return Store.open(directory)


def asked(store: Store, **changes: Any) -> Request:
    """A request as a person finds it."""
    store.put(request(**changes))
    (found,) = store.pending()
    return found


def yes(store: Store, found: Request, **more: Any) -> str:
    return store.answer(found, **{"approved": True, "by": "anna", "way": "command", **more})


def test_what_is_put_is_found_and_its_answer_is_seen(store: Store, directory: Path) -> None:
    digest = store.put(request())
    assert store.look("0123456789abcdef", digest) is None
    found = store.find("0123456789abcdef")
    assert found is not None
    assert found.digest == digest
    assert msgspec.structs.replace(found, digest="") == msgspec.structs.replace(
        request(), asked_s=found.asked_s, expires_s=found.expires_s
    )
    assert yes(store, found, remember="15m") == ""
    assert store.pending() == ()
    answer = store.look(found.id, digest)
    assert answer is not None
    assert (answer.said, answer.by, answer.way, answer.remember, answer.known) == (
        "approved",
        "anna",
        "command",
        "15m",
        "authenticated",
    )
    assert not store.taken(found.id)
    store.remove(found.id)
    assert store.taken(found.id)
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o600}
    assert directory.stat().st_mode & 0o777 == 0o700


def test_a_second_answer_does_not_count_and_is_told_so(store: Store) -> None:
    found = asked(store)
    assert yes(store, found, approved=False, by="anna") == ""
    assert yes(store, found, by="ben") == "it was answered before, by anna (denied)"
    answer = store.look(found.id, found.digest)
    assert answer is not None
    assert answer.said == "denied"


def test_of_many_answers_at_once_exactly_one_counts(store: Store, directory: Path) -> None:
    found = asked(store)
    with ThreadPoolExecutor(16) as pool:
        people = [f"person-{n}" for n in range(32)]
        said = list(pool.map(lambda by: (by, yes(Store(directory), found, by=by)), people))
    (winner,) = [by for by, problem in said if not problem]
    answer = store.look(found.id, found.digest)
    assert answer is not None
    assert answer.by == winner


def test_what_the_gateway_has_closed_cannot_be_answered(store: Store) -> None:
    found = asked(store)
    assert store.close(found.id, found.digest, "nobody answered within 5 s")
    assert "nobody answered within 5 s" in yes(store, found)
    store.remove(found.id)
    assert "nobody answered within 5 s" in yes(store, found)
    with pytest.raises(Odd):
        store.look(found.id, found.digest)


def test_an_answer_that_came_first_keeps_the_gateway_from_closing(store: Store) -> None:
    found = asked(store)
    yes(store, found)
    assert not store.close(found.id, found.digest, "nobody answered")


def test_what_has_expired_is_neither_shown_nor_answered(directory: Path) -> None:
    now = [time.time()]
    store = Store(directory, lambda: now[0])
    Store.open(directory)
    found = asked(store)
    now[0] += 301
    assert store.pending() == ()
    assert yes(store, found) == "it does not wait for an answer any more"


def test_only_what_is_offered_can_be_answered(store: Store) -> None:
    found = asked(store, ways=("console",), remember=("call",))
    assert yes(store, found) == "an answer by the command does not count here"
    with pytest.raises(ValueError, match="not offered"):
        yes(store, found, way="console", remember="session")
    with pytest.raises(ValueError, match="who gave it"):
        yes(store, found, way="console", by="")
    assert store.look(found.id, found.digest) is None


def test_an_answer_to_what_was_changed_since_does_not_count(store: Store, directory: Path) -> None:
    found = asked(store)
    path = directory / f"{found.id}.request"
    path.unlink()
    store.put(request(text="Something harmless."))
    assert yes(store, found) == "it does not wait for an answer any more"
    (other,) = store.pending()
    assert yes(store, other) == ""
    with pytest.raises(Odd, match="another question"):
        store.look(found.id, found.digest)


@pytest.mark.parametrize("what", ["link", "fifo", "directory", "open", "large", "json", "other"])
def test_an_odd_answer_is_none(store: Store, directory: Path, what: str) -> None:
    found = asked(store)
    path = directory / f"{found.id}.answer"
    fine = msgspec.json.encode(
        Answer(id=found.id, request=found.digest, said="approved", by="anna", way="command")
    )
    if what == "link":
        (directory / "elsewhere").write_bytes(fine)
        path.symlink_to(directory / "elsewhere")
    elif what == "fifo":
        os.mkfifo(path, 0o600)
    elif what == "directory":
        path.mkdir()
    elif what == "open":
        path.write_bytes(fine)
        path.chmod(0o644)
    else:
        more = fine[:-1] + b',"more":1}'
        path.write_bytes(
            {"large": b" " * MAX_FILE_BYTES + fine, "json": fine[:-1], "other": more}[what]
        )
        path.chmod(0o600)
    with pytest.raises(Odd):
        store.look(found.id, found.digest)
    assert store.pending() == ()
    assert yes(store, found) != ""


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"id":"0123456789abcdef"}', b"\xff"])
def test_an_odd_request_is_none(store: Store, directory: Path, data: bytes) -> None:
    path = directory / "0123456789abcdef.request"
    path.write_bytes(data)
    path.chmod(0o600)
    assert store.pending() == ()
    assert store.find("../../etc/passwd") is None


def test_a_directory_that_others_can_reach_into_is_refused(directory: Path) -> None:
    directory.mkdir(mode=0o755)
    directory.chmod(0o755)
    with pytest.raises(UserError, match="chmod 700"):
        Store.open(directory)


def test_a_directory_that_was_opened_to_others_takes_no_answer(
    store: Store, directory: Path
) -> None:
    found = asked(store)
    directory.chmod(0o777)
    with pytest.raises(UserError, match="who could answer for you"):
        yes(store, found)


def test_what_a_killed_gateway_left_is_swept_in_the_end(store: Store, directory: Path) -> None:
    store.put(request("00000000000000aa"))
    old = directory / "00000000000000aa.request"
    past = time.time() - KEEP_S - 10
    os.utime(old, (past, past))
    store.put(request("00000000000000bb"))
    assert not old.exists()
