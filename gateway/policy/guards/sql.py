"""The guard `sql`: one statement of the kinds, tables and functions that are listed.

Two judges must agree: `sql_calls`, over the tokens as PostgreSQL's scanner sees them, and the walk
over sqlglot's tree, in which every node must be one that is known. It complements the
server's own read-only mode and a role without rights, it does not replace them: what a view,
an operator or a cast that somebody defined on the server does is not seen here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from gateway.policy.guards.base import Guard, OptionsError, read_options
from gateway.policy.guards.sql_calls import Calls
from gateway.policy.guards.sql_text import SqlRefusedError, Token, nesting, plain, tokens

if TYPE_CHECKING:
    from gateway.policy.guards.sql_tree import Tree

Statement = Literal["select", "explain", "insert", "update", "delete"]

_WRITING = frozenset({"insert", "update", "delete"})
_STARTS = frozenset({"select", "values", "table", "with", "("})
_MAX_DEPTH = 500


class SqlOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`statements`: `explain` is without ANALYZE. `schemas`, `tables` (`name` or `schema.name`; a
    name alone is of `public`) and `functions` (`name` or `schema.name`): None is, for tables, any,
    for functions those of `sql_names`. `max_depth`: of brackets."""

    dialect: Literal["postgres"] = "postgres"
    statements: tuple[Statement, ...] = ("select",)
    read_only: bool = True
    schemas: tuple[str, ...] | None = None
    tables: tuple[str, ...] | None = None
    functions: tuple[str, ...] | None = None
    max_bytes: int = 64 << 10
    max_depth: int = 200


class SqlGuard(Guard):
    """Refuses every statement that is not known to be harmless and listed."""

    slow = True

    def __init__(self, options: object) -> None:
        given = read_options(options, SqlOptions)
        if not given.statements:
            raise OptionsError("statements", "name at least one kind")
        writing = sorted(_WRITING.intersection(given.statements))
        if given.read_only and writing:
            raise OptionsError("statements", f"{writing[0]} is not allowed unless read_only: false")
        if not 0 < given.max_depth <= _MAX_DEPTH:
            raise OptionsError("max_depth", f"must be from 1 to {_MAX_DEPTH}")
        if given.max_bytes <= 0:
            raise OptionsError("max_bytes", "must be positive")
        for key, names in (("tables", given.tables), ("functions", given.functions)):
            for position, name in enumerate(names or ()):
                if name.count(".") > 1 or not all(name.split(".")):
                    raise OptionsError(f"{key}[{position}]", "must be a name or schema.name")
        self._options = given
        self._statements = frozenset(given.statements)
        self._calls = Calls(given.functions)
        self._tree: Tree | None = None

    def prepare(self) -> None:
        """See `Guard.prepare`. sqlglot takes half a second to import; only `check` needs it."""
        if self._tree is None:
            from gateway.policy.guards.sql_tree import Tree

            self._tree = Tree(self._statements, self._options.schemas, self._options.tables)
            # The first parse sets up more than the later ones.
            self._judge("select 1 from a", self._tree)

    def glance(self, value: object) -> str | None:
        """See `Guard.glance`: the type, the length, the depth of brackets."""
        if not isinstance(value, str):
            return "The SQL must be a text."
        limit = self._options.max_bytes
        # A character has at most 4 bytes; encode only what may be too long.
        if len(value) > limit or (
            len(value) * 4 > limit and len(value.encode(errors="replace")) > limit
        ):
            return f"The SQL is longer than {limit} bytes."
        if nesting(value, self._options.max_depth):
            return f"The SQL has brackets nested deeper than {self._options.max_depth}."
        return None

    def check(self, value: object) -> str | None:
        """See `Guard.check`."""
        problem = self.glance(value)
        if problem is not None:
            return problem
        assert isinstance(value, str)
        self.prepare()
        assert self._tree is not None
        return self._judge(value, self._tree)

    def _judge(self, text: str, tree: Tree) -> str | None:
        try:
            read = self._without_explain(_one_statement(tokens(text)))
            if read[0].kind == "quoted" or read[0].text not in _STARTS | self._statements:
                raise SqlRefusedError(self._only())
            names = self._calls.check(read, writes=bool(self._statements & _WRITING))
            tree.check(plain(read), names)
        except SqlRefusedError as error:
            return str(error)
        return None

    def _without_explain(self, read: list[Token]) -> list[Token]:
        if read[0].kind != "word" or read[0].text != "explain":
            if not self._statements - {"explain"}:
                raise SqlRefusedError(self._only())
            return read
        if "explain" not in self._statements:
            raise SqlRefusedError(self._only())
        rest = read[1:]
        if rest and rest[0] == ("word", "verbose", "verbose", True):
            rest = rest[1:]
        if not rest or rest[0].text in ("analyze", "analyse", "("):
            # `EXPLAIN (SELECT 1)` is the price: its bracket may as well hold options.
            raise SqlRefusedError("EXPLAIN must be plain: no ANALYZE and no options.")
        return rest

    def _only(self) -> str:
        return f"Only these statements are allowed: {', '.join(sorted(self._statements)).upper()}."


def _one_statement(read: list[Token]) -> list[Token]:
    while read and read[-1].text == ";" and read[-1].kind == "mark":
        read.pop()
    if any(token.kind == "mark" and token.text == ";" for token in read):
        raise SqlRefusedError("There must be one statement only.")
    if not read:
        raise SqlRefusedError("There is no statement.")
    return read
