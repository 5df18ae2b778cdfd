"""What the tokens of a statement call: names before brackets, and what else stands out in them."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from gateway.policy.guards.sql_names import BEFORE_BRACKET, BEFORE_LITERAL, FUNCTIONS
from gateway.policy.guards.sql_text import SqlRefusedError, Token

_NAMES = ("word", "quoted")
_LOCKING = frozenset({"update", "share", "no", "key"})
_WRITING = frozenset({"insert", "update", "delete", "merge", "truncate"})


class Names(NamedTuple):
    """What must be accounted for by whoever has the tree.

    `unlisted`: names before brackets that are no listed function; each must be that of an alias
    with columns, or of a table that is inserted into. `called`: the listed ones. `dotted`: every
    two names with a dot between them; PostgreSQL takes f.g for g(f) where f has no column g.
    """

    unlisted: Counter[str]
    called: frozenset[str]
    dotted: frozenset[tuple[str, str]]


class Calls:
    """Which functions may be called; None is the gateway's own list."""

    def __init__(self, functions: Sequence[str] | None) -> None:
        listed = FUNCTIONS if functions is None else frozenset(functions)
        self._listed = listed | {
            name.removeprefix("pg_catalog.") for name in listed if name.startswith("pg_catalog.")
        }

    def check(self, read: Sequence[Token], *, writes: bool) -> Names:
        """Raises SqlRefusedError."""
        unlisted: Counter[str] = Counter()
        called: set[str] = set()
        dotted: set[tuple[str, str]] = set()
        for position in range(1, len(read)):
            before, token = read[position - 1], read[position]
            if token.kind == "mark":
                if token.text == "(" and before.kind in _NAMES:
                    self._bracket(read, position, unlisted, called)
                elif token.text == ".":
                    if before.kind not in _NAMES:
                        raise SqlRefusedError(
                            "Fields of an expression are not allowed: (x).y is a call."
                        )
                    after = read[position + 1 : position + 2]
                    if after and after[0].kind in _NAMES:
                        dotted.add((before.text, after[0].text))
            elif token.kind == "literal":
                if before.kind == "quoted" or (
                    before.text not in BEFORE_LITERAL
                    if before.kind == "word"
                    else before.kind == "mark" and before.text in (")", "]")
                ):
                    raise SqlRefusedError("A quoted text stands where none is expected.")
            elif token.kind == "word":
                _word(token, before, writes=writes)
        return Names(unlisted, frozenset(called), frozenset(dotted))

    def _bracket(
        self, read: Sequence[Token], position: int, unlisted: Counter[str], called: set[str]
    ) -> None:
        name = read[position - 1]
        if position < 2 or read[position - 2].text != "." or read[position - 2].kind != "mark":
            if name.kind == "word" and name.text in BEFORE_BRACKET:
                return
            if name.text in self._listed:
                called.add(name.text)
            else:
                unlisted[name.text] += 1
            return
        schema = read[position - 3] if position > 2 else None
        if schema is None or (position > 3 and read[position - 4].text == "."):
            raise SqlRefusedError("A function's name must be plain, with one schema at most.")
        full = f"{schema.text}.{name.text}"
        if full in self._listed or (schema.text == "pg_catalog" and name.text in self._listed):
            called.add(name.text)
        else:
            unlisted[full] += 1


def _word(token: Token, before: Token, *, writes: bool) -> None:
    if before.kind == "word" and before.text == "for" and token.text in _LOCKING:
        raise SqlRefusedError("Rows must not be locked: no FOR UPDATE or FOR SHARE.")
    if not writes and token.text in _WRITING and before.text in ("(", ")"):
        raise SqlRefusedError("The statement must not write, not even inside WITH.")
