"""Tokens are kept as hashes, by their owner alone, and no command loses another's."""

import json
import os
import re
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.pretty import pretty_repr

from gateway.errors import UserError
from gateway.identity.bearer import LOOK_AGAIN_S, Bearer, Rejected, TokenBook
from gateway.identity.tokens import id_of, list_tokens, read_token, revoke_token
from tests.identity.conftest import NOW_S, Clock, file_of, header, made, rejected

FORM = re.compile(r"mtg_[0-9a-f]{8}_[A-Za-z0-9_-]{43}")


class TestCreating:
    def test_a_token_has_a_prefix_its_id_and_256_random_bits(self, store: Path) -> None:
        token, text = made(store)
        assert FORM.fullmatch(text)
        assert text.startswith(f"mtg_{token.id}_")
        assert len({made(store)[1][13:] for _ in range(20)}) == 20

    def test_only_a_hash_is_kept(self, store: Path) -> None:
        token, text = made(store, "a", "b", "a")
        (file,) = store.iterdir()
        assert file == file_of(store, token)
        assert text[13:].encode() not in file.read_bytes()
        assert token.agents == ("a", "b")

    def test_files_and_directories_are_the_owners_alone_whatever_the_umask(
        self, store: Path
    ) -> None:
        before = os.umask(0)
        try:
            token, _ = made(store)
        finally:
            os.umask(before)
        assert stat.S_IMODE(file_of(store, token).stat().st_mode) == 0o600
        assert stat.S_IMODE(store.stat().st_mode) == 0o700
        assert stat.S_IMODE(store.parent.stat().st_mode) == 0o700

    def test_an_id_that_is_taken_is_not_overwritten(
        self, store: Path, book: TokenBook, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first, text = made(store)
        draws = [bytes.fromhex(first.id)]
        real = os.urandom

        def urandom(size: int) -> bytes:
            return draws.pop() if size == 4 and draws else real(size)

        monkeypatch.setattr(os, "urandom", urandom)
        second, other = made(store)
        assert draws == []
        assert second.id != first.id
        assert isinstance(book.verify(header(text)), Bearer)
        assert isinstance(book.verify(header(other)), Bearer)

    def test_a_directory_that_others_can_reach_into_is_refused(self, store: Path) -> None:
        store.mkdir(parents=True)
        store.chmod(0o755)
        with pytest.raises(UserError, match="other users can reach into"):
            made(store)

    def test_what_cannot_be_written_is_told_and_leaves_nothing(
        self, store: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(UserError, match="No space left on device"):
            made(store)
        assert list(store.iterdir()) == []

    def test_commands_at_the_same_time_lose_nothing(self, store: Path) -> None:
        doomed = [made(store)[0].id for _ in range(20)]
        create = (
            "import sys; from pathlib import Path\n"
            "from gateway.identity.tokens import create_token\n"
            "for _ in range(20): print(create_token(Path(sys.argv[1]), ['a'], label='',"
            " now_s=0, expires_s=None)[0].id)"
        )
        creators = [
            subprocess.Popen(
                [sys.executable, "-c", create, str(store)], stdout=subprocess.PIPE, text=True
            )
            for _ in range(2)
        ]
        assert all(revoke_token(store, identifier) for identifier in doomed)
        created = "".join(each.communicate(timeout=30)[0] for each in creators).split()
        listed, problems = list_tokens(store)
        assert {token.id for token in listed} == set(created)
        assert (len(listed), problems) == (40, [])


class TestRevoking:
    def test_a_token_is_revoked_once(self, store: Path) -> None:
        token, _ = made(store)
        kept, _ = made(store)
        assert revoke_token(store, token.id)
        assert not revoke_token(store, token.id)
        assert list_tokens(store) == ([kept], [])

    def test_of_two_that_revoke_at_once_one_does(self, store: Path) -> None:
        token, _ = made(store)
        done: list[bool] = []
        threads = [
            threading.Thread(target=lambda: done.append(revoke_token(store, token.id)))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(done) == [False, False, False, True]

    @pytest.mark.parametrize("text", ["", "../../x", "0123ABCD", "0123abc", "0123abcd\n", "*"])
    def test_what_is_no_id_is_never_a_path(self, store: Path, text: str) -> None:
        made(store)
        assert not revoke_token(store, text)
        assert id_of(text) is None

    def test_an_id_and_a_whole_token_name_a_token(self, store: Path) -> None:
        token, text = made(store)
        assert id_of(token.id) == id_of(text) == token.id
        assert id_of(text[:-1]) is None

    def test_a_file_that_cannot_be_used_can_be_revoked(self, store: Path) -> None:
        token, _ = made(store)
        file_of(store, token).write_bytes(b"{")
        assert revoke_token(store, token.id)
        assert list_tokens(store) == ([], [])


class TestListing:
    def test_a_store_that_does_not_exist_is_empty(self, store: Path, book: TokenBook) -> None:
        assert list_tokens(store) == ([], [])
        assert book.problem() is None

    def test_tokens_come_oldest_first_and_other_files_are_left_out(self, store: Path) -> None:
        for now_s in (NOW_S, NOW_S - 5, NOW_S + 5):
            made(store, now_s=now_s)
        (store / ".0123abcd.json.5f5f5f5f").write_text("left by a crash")
        (store / "notes.json").write_text("x")
        listed, problems = list_tokens(store)
        assert [token.created_s for token in listed] == [NOW_S - 5, NOW_S, NOW_S + 5]
        assert problems == []


class TestPermissions:
    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o601])
    def test_a_file_that_others_can_reach_is_refused_alone(
        self, store: Path, book: TokenBook, mode: int
    ) -> None:
        bad, text = made(store)
        good, other = made(store)
        file_of(store, bad).chmod(mode)
        listed, (problem,) = list_tokens(store)
        assert listed == [good]
        assert problem.path == str(file_of(store, bad))
        assert "other users can reach it; run `chmod go-rwx`" in problem.message
        assert "other users can reach it" in rejected(book.verify(header(text))).reason
        assert isinstance(book.verify(header(other)), Bearer)

    @pytest.mark.parametrize("mode", [0o750, 0o705, 0o720, 0o702])
    def test_a_directory_that_others_can_reach_is_refused_whole(
        self, store: Path, book: TokenBook, mode: int
    ) -> None:
        _, text = made(store)
        store.chmod(mode)
        uses: tuple[Callable[[Path], object], ...] = (list_tokens, TokenBook.open)
        for use in uses:
            with pytest.raises(UserError, match="other users can reach it"):
                use(store)
        assert "other users can reach it" in rejected(book.verify(header(text))).reason
        assert "other users can reach it" in str(book.problem())

    def test_the_permissions_are_watched_while_the_service_runs(
        self, store: Path, book: TokenBook, clock: Clock
    ) -> None:
        token, text = made(store)
        assert isinstance(book.verify(header(text)), Bearer)
        for path, good, bad in ((file_of(store, token), 0o600, 0o660), (store, 0o700, 0o770)):
            path.chmod(bad)
            clock.now_s += LOOK_AGAIN_S
            assert isinstance(book.verify(header(text)), Rejected)
            path.chmod(good)
            clock.now_s += LOOK_AGAIN_S
            assert isinstance(book.verify(header(text)), Bearer)

    def test_what_belongs_to_another_user_is_refused(
        self, store: Path, book: TokenBook, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _, text = made(store)
        if os.geteuid() == 0:
            os.chown(store, 12345, -1)
        else:
            monkeypatch.setattr(os, "geteuid", lambda: 12345)
        with pytest.raises(UserError, match="belongs to another user"):
            list_tokens(store)
        assert "another user" in rejected(book.verify(header(text))).reason

    def test_a_store_that_is_no_directory_is_refused(self, store: Path, book: TokenBook) -> None:
        store.parent.mkdir()
        store.write_text("{}")
        with pytest.raises(UserError, match="is not a directory"):
            TokenBook.open(store)
        assert "is not a directory" in str(book.problem())

    def test_a_link_in_place_of_a_file_is_refused(self, store: Path, book: TokenBook) -> None:
        token, text = made(store)
        elsewhere = store.parent / "elsewhere"
        file_of(store, token).rename(elsewhere)
        file_of(store, token).symlink_to(elsewhere)
        assert isinstance(book.verify(header(text)), Rejected)

    def test_a_fifo_in_place_of_a_file_holds_nobody_up(self, store: Path, book: TokenBook) -> None:
        token, text = made(store)
        file_of(store, token).unlink()
        os.mkfifo(file_of(store, token), 0o600)
        assert "not a regular file" in rejected(book.verify(header(text))).reason


def _without(key: str) -> Callable[[dict[str, Any]], object]:
    return lambda value: value.pop(key)


def _with(**members: Any) -> Callable[[dict[str, Any]], object]:
    return lambda value: value.update(members)


def _with_token(**members: Any) -> Callable[[dict[str, Any]], object]:
    return lambda value: value["token"].update(members)


class TestFiles:
    @pytest.mark.parametrize(
        "change",
        [
            _without("version"),
            _without("sha256"),
            _without("token"),
            _with(version=2),
            _with(sha256=""),
            _with(sha256="AAAA"),
            _with(more=1),
            _with_token(id="0123abcd"),
            _with_token(agents=[]),
            _with_token(agents=[""]),
            _with_token(agents="a"),
            _with_token(expires_s=1e300),
            _with_token(expires_s=-1),
            _with_token(expires_s="never"),
            _with_token(scope="all"),
        ],
    )
    def test_a_file_of_another_shape_gives_nothing(
        self, store: Path, book: TokenBook, change: Callable[[dict[str, Any]], object]
    ) -> None:
        token, text = made(store)
        path = file_of(store, token)
        value = json.loads(path.read_bytes())
        change(value)
        path.write_text(json.dumps(value))
        assert "is not a token's file" in rejected(book.verify(header(text))).reason
        listed, problems = list_tokens(store)
        assert (listed, len(problems)) == ([], 1)

    @pytest.mark.parametrize(
        "data", [b"", b"{", b"[" * 100_000, b"\xff", b"null", b'{"version":NaN}', b" " * 300_000]
    )
    def test_garbage_gives_nothing(self, store: Path, book: TokenBook, data: bytes) -> None:
        token, text = made(store)
        file_of(store, token).write_bytes(data)
        assert "is not a token's file" in rejected(book.verify(header(text))).reason

    def test_a_token_does_not_come_by_the_file_of_another(
        self, store: Path, book: TokenBook
    ) -> None:
        wide, _ = made(store, "a", "b")
        narrow, text = made(store, "a")
        file_of(store, narrow).write_bytes(file_of(store, wide).read_bytes())
        assert isinstance(book.verify(header(text)), Rejected)


class TestSecrecy:
    def test_neither_token_nor_hash_shows_anywhere(self, store: Path, book: TokenBook) -> None:
        token, text = made(store)
        digest = json.loads(file_of(store, token).read_bytes())["sha256"]
        book.verify(header(text))
        shown = [
            *(
                repr(value) + pretty_repr(value)
                for value in (token, book, vars(book), read_token(store, token.id))
            ),
            *(repr(book.verify(header(each))) for each in (text, text[:-1], text[:-1] + "-")),
        ]
        file_of(store, token).chmod(0o644)
        shown += map(str, list_tokens(store)[1])
        file_of(store, token).chmod(0o600)
        file_of(store, token).write_text(json.dumps({"sha256": digest, text: 1}))
        shown += map(str, list_tokens(store)[1])
        everything = "".join(shown)
        assert token.id in everything
        assert text[13:] not in everything
        assert digest[:-1] not in everything
        assert repr(bytes(digest, "ascii")) not in everything

    def test_nothing_heavy_is_imported(self) -> None:
        code = (
            "import sys, gateway.identity.tokens, gateway.identity.endpoints\n"
            "print({'asyncio', 'pydantic', 'yaml', 'click', 'rich'} & set(sys.modules))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
        )
        assert done.stdout.strip() == "set()"
