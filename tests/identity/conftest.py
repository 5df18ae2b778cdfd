"""A store of tokens, and a book over it whose clocks a test moves by hand."""

from pathlib import Path

import pytest

from gateway.identity.bearer import Bearer, Rejected, TokenBook
from gateway.identity.tokens import Token, create_token

NOW_S = 1_800_000_000
EXPIRES_S = NOW_S + 60


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now_s: float = NOW_S

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "tokens" / "one"


@pytest.fixture
def book(store: Path, clock: Clock) -> TokenBook:
    return TokenBook(store, clock, clock)


def made(
    store: Path, *agents: str, now_s: float = NOW_S, expires_s: float | None = EXPIRES_S
) -> tuple[Token, str]:
    return create_token(store, agents or ("a",), label="ci", now_s=now_s, expires_s=expires_s)


def header(text: str) -> tuple[bytes]:
    return (b"Bearer " + text.encode(),)


def rejected(answer: Bearer | Rejected) -> Rejected:
    assert isinstance(answer, Rejected)
    assert answer.status == 401
    return answer


def file_of(store: Path, token: Token) -> Path:
    return store / f"{token.id}.json"
