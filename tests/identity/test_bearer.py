"""Only a whole, valid token is taken, and what is not is answered alike."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.identity.bearer import LOOK_AGAIN_S, Bearer, Rejected, TokenBook
from gateway.identity.tokens import revoke_token
from tests.identity.conftest import EXPIRES_S, NOW_S, Clock, header, made, rejected

PLAIN = 'Bearer realm="mcp-tool-gateway"'
INVALID = (
    'Bearer realm="mcp-tool-gateway", error="invalid_token", '
    'error_description="The token is malformed, unknown, expired or revoked"'
)


class TestVerifying:
    def test_a_valid_token_says_who_may_be_who(self, store: Path, book: TokenBook) -> None:
        token, text = made(store, "a", "b")
        assert book.verify(header(text)) == Bearer(token.id, ("a", "b"), EXPIRES_S)

    @pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER ", "bEaReR   "])
    def test_the_scheme_may_be_written_in_any_case(
        self, store: Path, book: TokenBook, scheme: str
    ) -> None:
        _, text = made(store)
        assert isinstance(book.verify(((scheme + text).encode(),)), Bearer)
        assert isinstance(book.verify(((f" \t{scheme}{text} ").encode(),)), Bearer)

    def test_without_a_header_the_challenge_has_no_error(self, book: TokenBook) -> None:
        answer = rejected(book.verify(()))
        assert (answer.missing, answer.challenge) == (True, PLAIN)

    @pytest.mark.parametrize("value", [b"", b"Basic YTpi", b"Token x", b"mtg_0123abcd", b"Bearerx"])
    def test_another_scheme_has_no_error_told_but_is_not_anonymous(
        self, book: TokenBook, value: bytes
    ) -> None:
        answer = rejected(book.verify((value,)))
        assert (answer.missing, answer.challenge) == (False, PLAIN)

    def test_two_headers_are_refused_even_if_both_are_right(
        self, store: Path, book: TokenBook
    ) -> None:
        _, text = made(store)
        for headers in (header(text) * 2, (*header(text), b""), (b"", *header(text))):
            answer = rejected(book.verify(headers))
            assert not answer.missing
            assert 'error="invalid_request"' in answer.challenge

    def test_whatever_is_wrong_with_a_token_the_answer_is_the_same(
        self, store: Path, book: TokenBook
    ) -> None:
        _, good = made(store)
        _, expired = made(store, expires_s=NOW_S)
        revoked, gone = made(store)
        revoke_token(store, revoked.id)
        texts = [
            *(expired, gone, good[:13] + "A" * 43, "mtg_00000000_" + "A" * 43),
            *("", " ", "x", good[:-1], good + "A", good.upper(), good.replace("mtg_", "mtg-")),
            *(good + tail for tail in ("=", ", Bearer x", " x", "\n", "\0", "\u00e9")),
            good.replace("_", "\uff3f", 1),
        ]
        answers = [rejected(book.verify(header(text))) for text in texts]
        assert {(answer.missing, answer.challenge) for answer in answers} == {(False, INVALID)}
        assert len({answer.message for answer in answers}) == 1
        assert len({answer.reason for answer in answers}) == 3  # malformed, unknown, expired
        assert isinstance(book.verify(header(good)), Bearer)

    def test_a_token_expires_to_the_second_however_lately_it_was_used(
        self, store: Path, book: TokenBook, clock: Clock
    ) -> None:
        _, text = made(store)
        clock.now_s = EXPIRES_S - 0.01
        assert isinstance(book.verify(header(text)), Bearer)
        clock.now_s = EXPIRES_S
        assert "expired" in rejected(book.verify(header(text))).reason

    def test_a_token_may_be_for_ever(self, store: Path, book: TokenBook, clock: Clock) -> None:
        token, text = made(store, expires_s=None)
        clock.now_s = 1e12
        assert book.verify(header(text)) == Bearer(token.id, ("a",), None)

    def test_a_token_counts_from_the_moment_it_is_made(self, store: Path, book: TokenBook) -> None:
        assert isinstance(book.verify(header("mtg_00000000_" + "A" * 43)), Rejected)
        _, text = made(store)
        _, other = made(store)
        assert isinstance(book.verify(header(text)), Bearer)
        assert isinstance(book.verify(header(other)), Bearer)

    def test_a_revoked_token_is_refused_within_a_second(
        self, store: Path, book: TokenBook, clock: Clock
    ) -> None:
        token, text = made(store)
        assert isinstance(book.verify(header(text)), Bearer)
        revoke_token(store, token.id)
        clock.now_s += LOOK_AGAIN_S
        assert LOOK_AGAIN_S < 1
        assert isinstance(book.verify(header(text)), Rejected)

    def test_a_removed_store_ends_every_token(
        self, store: Path, book: TokenBook, clock: Clock
    ) -> None:
        _, text = made(store)
        assert isinstance(book.verify(header(text)), Bearer)
        store.rename(store.parent / "aside")
        clock.now_s += LOOK_AGAIN_S
        assert isinstance(book.verify(header(text)), Rejected)

    def test_a_file_is_looked_at_twice_a_second_and_read_when_it_changed(
        self, store: Path, book: TokenBook, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _, text = made(store)
        seen = {"open": 0, "lstat": 0}
        really_open, really_lstat = os.open, Path.lstat

        def opened(path: Path, flags: int) -> int:
            seen["open"] += 1
            return really_open(path, flags)

        def looked_at(path: Path) -> os.stat_result:
            seen["lstat"] += 1
            return really_lstat(path)

        monkeypatch.setattr(os, "open", opened)
        monkeypatch.setattr(Path, "lstat", looked_at)
        for _ in range(100):
            assert isinstance(book.verify(header(text)), Bearer)
        assert seen == {"open": 1, "lstat": 0}
        for _ in range(100):
            clock.now_s += 0.01
            assert isinstance(book.verify(header(text)), Bearer)
        assert seen["open"] == 1
        assert 1 <= seen["lstat"] <= 2

    def test_what_cannot_be_looked_at_is_refused_and_told_without_the_path(
        self, store: Path, book: TokenBook, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _, text = made(store)
        assert isinstance(book.verify(header(text)), Bearer)

        def broken(path: Path, **options: object) -> os.stat_result:
            raise OSError(5, "Input/output error")

        with monkeypatch.context() as patch:
            patch.setattr(Path, "stat", broken)
            clock.now_s += LOOK_AGAIN_S
            answer = rejected(book.verify(header(text)))
            assert (answer.missing, answer.challenge) == (False, INVALID)
            assert "Input/output error" in answer.reason
            problem = book.problem()
        assert problem is not None
        assert problem.startswith("the tokens cannot be used: cannot be read: Input/output error")
        assert str(store) not in problem
        clock.now_s += LOOK_AGAIN_S
        assert book.problem() is None
        assert isinstance(book.verify(header(text)), Bearer)

    @given(
        headers=st.lists(st.binary(max_size=90) | st.from_regex(rb"(?i:bearer) +.*"), max_size=3)
    )
    @example(headers=[b"Bearer mtg_00000000_" + b"\xff" * 43])
    @example(headers=[b"bearer mtg_" + b"0" * 8 + b"_" + b"-" * 43])
    def test_nothing_made_up_is_taken(
        self, tmp_path_factory: pytest.TempPathFactory, headers: list[bytes]
    ) -> None:
        store = tmp_path_factory.getbasetemp() / "store-of-the-property"
        if not store.exists():
            made(store, expires_s=None)
        answer = rejected(TokenBook(store).verify(tuple(headers)))
        assert answer.missing == (headers == [])
        assert re.fullmatch(r"Bearer [ !#-\[\]-~\"]+", answer.challenge)

    @given(data=st.data())
    def test_a_token_with_any_character_changed_is_not_taken(
        self, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
    ) -> None:
        store = tmp_path_factory.mktemp("store")
        _, text = made(store)
        position = data.draw(st.integers(0, len(text) - 1))
        character = data.draw(st.characters(codec="ascii").filter(lambda c: c != text[position]))
        changed = text[:position] + character + text[position + 1 :]
        assert isinstance(TokenBook(store, lambda: NOW_S).verify(header(changed)), Rejected)
        assert isinstance(TokenBook(store, lambda: NOW_S).verify(header(text)), Bearer)
