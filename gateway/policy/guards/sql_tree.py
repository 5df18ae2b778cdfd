"""The tree of one SQL statement: every node must be known, every table and column accounted for."""

import re
from collections.abc import Iterator, Sequence

from sqlglot import exp
from sqlglot.dialects.postgres import Postgres
from sqlglot.errors import SqlglotError

from gateway.policy.guards.sql_calls import Names
from gateway.policy.guards.sql_names import SYSTEM_RELATIONS, TYPES, VALUES_WITHOUT_BRACKETS
from gateway.policy.guards.sql_text import SqlRefusedError

_KINDS: dict[str, tuple[type[exp.Expr], ...]] = {
    "select": (exp.Select, exp.SetOperation, exp.Subquery, exp.Values),
    "insert": (exp.Insert,),
    "update": (exp.Update,),
    "delete": (exp.Delete,),
}
_WRITING = (exp.Insert, exp.Update, exp.Delete)

# Nodes that are neither functions nor operators of two sides. Matched by exact class, so that a
# new kind of node in a later sqlglot is refused until somebody has looked at it.
_NODES = frozenset(
    {
        exp.Alias, exp.Aliases, exp.All, exp.Any, exp.AtTimeZone, exp.Between, exp.Boolean,
        exp.Bracket, exp.Column, exp.ColumnDef, exp.CTE, exp.Cube, exp.DataType,
        exp.DataTypeParam, exp.Distinct, exp.Escape, exp.Except, exp.Fetch, exp.Filter, exp.From,
        exp.Group, exp.GroupingSets, exp.Having, exp.Identifier, exp.In, exp.Intersect,
        exp.Interval, exp.IntervalSpan, exp.JSONKeyValue, exp.JSONPath, exp.JSONPathKey,
        exp.JSONPathRoot, exp.JSONPathSubscript, exp.Join, exp.Kwarg, exp.Lateral, exp.Limit,
        exp.LimitOptions, exp.Literal, exp.Neg, exp.Not, exp.Null, exp.Offset, exp.Order,
        exp.Ordered, exp.Paren, exp.Parameter, exp.PropertyEQ, exp.Rollup, exp.Select, exp.Slice,
        exp.Star, exp.Subquery, exp.Table, exp.TableAlias, exp.Tuple, exp.Union, exp.Values,
        exp.Var, exp.Where, exp.Window, exp.WindowSpec, exp.With, exp.WithinGroup, exp.BitwiseNot,
        exp.Variadic, exp.JSON, exp.Collate,
    }
)  # fmt: skip
_OPERATORS = frozenset(
    {
        exp.Add, exp.Sub, exp.Mul, exp.Div, exp.IntDiv, exp.Mod, exp.DPipe, exp.EQ, exp.NEQ,
        exp.GT, exp.GTE, exp.LT, exp.LTE, exp.NullSafeEQ, exp.NullSafeNEQ, exp.Is, exp.Like,
        exp.ILike, exp.SimilarTo, exp.BitwiseAnd, exp.BitwiseOr, exp.BitwiseXor,
        exp.BitwiseLeftShift, exp.BitwiseRightShift, exp.Distance, exp.Overlaps, exp.Glob,
        exp.ArrayContainsAll, exp.ArrayContainedBy, exp.ArrayOverlaps, exp.Adjacent,
        exp.ExtendsLeft, exp.ExtendsRight, exp.JSONBContains,
    }
)  # fmt: skip
_WRITING_NODES = frozenset(
    {exp.Insert, exp.Update, exp.Delete, exp.Schema, exp.Returning, exp.OnConflict}
)
# Functions that no bracket has to call, so that the check of names has not seen them.
_UNSEEN_FUNCTIONS = (exp.AnonymousAggFunc, exp.ParameterizedAgg, exp.CombinedAggFunc)

_TABLE_ARGS = frozenset({"this", "db", "alias", "joins", "only", "laterals"})
_SAFE_ATTRIBUTES = frozenset({"key", "value", "ordinality"})
_WRITTEN_ROWS = frozenset({"excluded", "old", "new"})
_SHOWN = re.compile(r"[A-Za-z_][A-Za-z0-9_.$]{0,127}")


class Tree:
    """What a statement may consist of and name. Building one is cheap, sqlglot once imported."""

    def __init__(
        self,
        statements: frozenset[str],
        schemas: Sequence[str] | None,
        tables: Sequence[str] | None,
    ) -> None:
        # EXPLAIN alone explains queries.
        kinds = statements - {"explain"} or {"select"}
        self._kinds = tuple(kind for name in kinds for kind in _KINDS[name])
        self._schemas = None if schemas is None else frozenset(schemas)
        self._tables = None if tables is None else frozenset(map(_full, tables))
        self._nodes = _NODES | _OPERATORS
        if any(kind in _WRITING for kind in self._kinds):
            self._nodes |= _WRITING_NODES

    def check(self, text: str, names: Names) -> None:
        """Raises SqlRefusedError. `names` is what the tokens of the same statement name."""
        root = _parse(text)
        if not isinstance(root, self._kinds):
            raise SqlRefusedError("This kind of statement is not allowed.")
        sources: set[str] = set()
        unsafe: dict[str, set[str]] = {}
        unlisted = names.unlisted.copy()
        for node in root.walk():
            self._node(node, names)
            name = _bracketed(node)
            if name is not None:
                unlisted[name] -= 1
            _note_source(node, sources, unsafe)
        unaccounted = sorted(name for name, times in unlisted.items() if times)
        if unaccounted:
            raise SqlRefusedError(f"The function {_shown(unaccounted[0])} is not allowed.")
        for column in root.find_all(exp.Column):
            _column(column, sources, unsafe)
        for left, right in names.dotted:
            _attribute(left, right, sources, unsafe, names.called)

    def _node(self, node: exp.Expr, names: Names) -> None:
        kind = type(node)
        if kind is exp.Table:
            self._table(node)
        elif kind is exp.Dot:
            # Only pg_catalog.f(x). Of anything else PostgreSQL calls what stands on the right:
            # ('/etc/passwd'::text).pg_read_file
            if not isinstance(node.expression, exp.Func) or type(node.this) is not exp.Identifier:
                raise SqlRefusedError("Fields of an expression are not allowed: (x).y is a call.")
        elif kind is exp.DataType:
            if node.this not in _types() or node.args.get("kind"):
                raise SqlRefusedError("A cast is to a type that is not allowed.")
        elif kind is exp.Parameter:
            if not isinstance(node.this, exp.Literal) or node.this.is_string:
                raise SqlRefusedError("Parameters are written $1.")
        elif isinstance(node, _WRITING):
            if not isinstance(node, self._kinds):
                raise SqlRefusedError("The statement must not write, not even inside WITH.")
        elif isinstance(node, exp.Into | exp.Lock):
            raise SqlRefusedError("The query must neither lock rows nor fill a table.")
        elif isinstance(node, exp.Func):
            # Its name, if it has one, was checked where it stands before a bracket.
            if isinstance(node, _UNSEEN_FUNCTIONS):
                raise SqlRefusedError("A function call is of an unknown form.")
            if kind is exp.Anonymous and _function(node) not in names.called:
                raise SqlRefusedError(f"The function {_shown(_function(node))} is not allowed.")
        elif kind not in self._nodes:
            raise SqlRefusedError("The statement has a part that is not known to be harmless.")

    def _table(self, table: exp.Expr) -> None:
        if {name for name, value in table.args.items() if value} - _TABLE_ARGS:
            raise SqlRefusedError("A table is named in an unusual way.")
        if not isinstance(table.this, exp.Identifier):
            if isinstance(table.this, exp.Func):
                return
            raise SqlRefusedError("A table is named in an unusual way.")
        name, schema = _name(table.this), _name(table.args.get("db"))
        if not schema:
            if not table.this.args.get("quoted") and name in VALUES_WITHOUT_BRACKETS:
                raise SqlRefusedError("A table is named in an unusual way.")
            if _is_cte(table, name):
                return
            # PostgreSQL looks into pg_catalog first, and all there begins with pg_.
            schema = "pg_catalog" if name.startswith("pg_") else "public"
        if self._tables is not None:
            if f"{schema}.{name}" in self._tables:
                return
            if self._schemas is None or schema not in self._schemas:
                raise SqlRefusedError(f"The table {_shown(f'{schema}.{name}')} is not allowed.")
        elif self._schemas is not None and schema not in self._schemas:
            raise SqlRefusedError(f"The schema {_shown(schema)} is not allowed.")
        listed = self._schemas is not None and schema in self._schemas
        if schema == "pg_catalog" and name not in SYSTEM_RELATIONS and not listed:
            raise SqlRefusedError(f"The system table {_shown(name)} is not allowed.")
        if schema.startswith("pg_toast"):
            raise SqlRefusedError(f"The schema {_shown(schema)} is not allowed.")


def _parse(text: str) -> exp.Expr:
    try:
        found = Postgres().parse(text)
    except SqlglotError:
        raise SqlRefusedError("The SQL cannot be parsed.") from None
    except RecursionError:
        raise SqlRefusedError("The SQL is nested too deep.") from None
    if len(found) != 1 or found[0] is None:
        raise SqlRefusedError("There must be one statement only.")
    return found[0]


def _types() -> frozenset[object]:
    return frozenset(getattr(exp.DType, name) for name in TYPES if hasattr(exp.DType, name))


def _full(table: str) -> str:
    if "." in table:
        return table
    return f"pg_catalog.{table}" if table.startswith("pg_") else f"public.{table}"


def _name(identifier: object) -> str:
    """As the server folds it: lower case unless quoted."""
    if not isinstance(identifier, exp.Identifier):
        return ""
    text = str(identifier.this)
    return text if identifier.args.get("quoted") else text.lower()


def _function(node: exp.Expr) -> str:
    return _name(node.this) if isinstance(node.this, exp.Identifier) else str(node.this).lower()


def _shown(name: str) -> str:
    """A name as a sentence may repeat it."""
    return name if _SHOWN.fullmatch(name) else "named there"


def _is_cte(table: exp.Expr, name: str) -> bool:
    """Whether a name without schema is one of WITH: those before it, all where RECURSIVE."""
    inside: exp.Expr = table
    node = table.parent
    while node is not None:
        clause = node if isinstance(node, exp.With) else node.args.get("with_")
        if isinstance(clause, exp.With) and (node is clause or inside is not clause):
            visible: list[exp.Expr] = list(clause.expressions)
            if node is clause and not clause.args.get("recursive"):
                visible = visible[: _position(visible, inside)]
            if any(_name(each.args["alias"].this) == name for each in visible):
                return True
        inside, node = node, node.parent
    return False


def _position(items: Sequence[exp.Expr], item: exp.Expr) -> int:
    return next((index for index, each in enumerate(items) if each is item), 0)


def _bracketed(node: exp.Expr) -> str | None:
    """The name that stands before a bracket in the text without being a function's."""
    if isinstance(node, exp.TableAlias) and node.args.get("columns") and node.this is not None:
        return _name(node.this)
    if isinstance(node, exp.Schema) and isinstance(node.this, exp.Table):
        schema = _name(node.this.args.get("db"))
        return f"{schema}.{_name(node.this.this)}" if schema else _name(node.this.this)
    return None


def _note_source(node: exp.Expr, sources: set[str], unsafe: dict[str, set[str]]) -> None:
    """Under which names columns are found; `unsafe` are results of functions.

    Of those PostgreSQL takes f.g for g(f), where f has no column g. What can be a column is given
    with the name.
    """
    alias = node.args.get("alias")
    if not isinstance(node, exp.Table | exp.Subquery | exp.Values | exp.Lateral | exp.Unnest):
        if isinstance(node, exp.Insert | exp.Update | exp.Delete):
            sources |= _WRITTEN_ROWS
        return
    columns = list(_columns(alias))
    counted = node.this if isinstance(node.this, exp.Unnest) else node
    if columns and isinstance(counted.args.get("offset"), exp.Identifier):
        columns.append(_name(counted.args["offset"]))  # sqlglot keeps WITH ORDINALITY's here
    name = _name(alias.this) if isinstance(alias, exp.TableAlias) else ""
    called = isinstance(node, exp.Unnest) or isinstance(node.this, exp.Func | exp.Unnest)
    if isinstance(node, exp.Table) and not called:
        sources.add(name or _name(node.this))
    elif not called:
        sources.add(name)
    elif name:
        known = set(columns) if columns else {name}
        unsafe[name] = unsafe.get(name, known) & known


def _columns(alias: object) -> Iterator[str]:
    if isinstance(alias, exp.TableAlias):
        for column in alias.args.get("columns") or ():
            yield _name(column.this if isinstance(column, exp.ColumnDef) else column)


def _column(column: exp.Column, sources: set[str], unsafe: dict[str, set[str]]) -> None:
    if column.args.get("catalog"):
        raise SqlRefusedError("A column is named in an unusual way.")
    table = _name(column.args.get("table"))
    if table and table not in sources and table not in unsafe:
        raise SqlRefusedError(f"There is no table {_shown(table)} in the query.")


def _attribute(
    left: str, right: str, sources: set[str], unsafe: dict[str, set[str]], called: frozenset[str]
) -> None:
    """By the tokens, wherever they stand: `left.right` must not be a call of `right`."""
    if left in unsafe:
        if right not in unsafe[left] | _SAFE_ATTRIBUTES:
            raise SqlRefusedError(
                f"{_shown(left)} is a function's result: name its columns, as in"
                f" {_shown(left)}(a, b), and use those."
            )
    elif left in called and left not in sources:
        raise SqlRefusedError(f"There is no table {_shown(left)} in the query.")
