"""The mutants of a module that are worth a run, made by cosmic-ray; its text is never changed."""

import ast
import re
import tomllib
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import NamedTuple

from cosmic_ray.commands import init
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import WorkDB, use_db

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ARGUED = re.compile(r"#.*\bmutants?: ", re.IGNORECASE)
"""What a comment has that argues why mutants of its line are left alive."""


class Mutant(NamedTuple):
    """One change of one module. `line` is where it stands, `number` tells those of a line apart."""

    path: str
    operator: str
    number: int
    line: int
    text: str

    @property
    def name(self) -> str:
        return f"{self.path}:{self.line} {self.operator.removeprefix('core/')} #{self.number}"


def modules() -> list[str]:
    """What is mutated, by the configuration."""
    config = tomllib.loads((HERE / "cosmic-ray.toml").read_text())
    return list(config["cosmic-ray"]["module-path"])


def mutants_of(path: str, only: str = "") -> Iterator[Mutant]:
    """Every mutant of a module whose name contains `only`, but `_Noise` and what is no Python."""
    source = (ROOT / path).read_text()
    noise = _Noise(source)
    with use_db(":memory:", WorkDB.Mode.create) as database:
        init([ROOT / path], database, {})
        mutations = [mutation for item in database.work_items for mutation in item.mutations]
    for mutation in mutations:
        if noise.holds(mutation.operator_name, mutation.start_pos):
            continue
        mutant = Mutant(
            path, mutation.operator_name, mutation.occurrence, mutation.start_pos[0], ""
        )
        if only not in mutant.name:
            continue
        operator = get_operator(mutation.operator_name)()
        text = mutate_code(source, operator, mutation.occurrence)
        if text is not None and text != source and compiled(text, path) is not None:
            yield mutant._replace(text=text)


def argument_for(path: str, line: int) -> bool:
    """Whether a comment on a line, or right above it, argues for its mutants."""
    lines = (ROOT / path).read_text().splitlines()
    if ARGUED.search(lines[line - 1]):
        return True
    above = line - 2
    while above >= 0 and lines[above].lstrip().startswith("#"):
        if ARGUED.search(lines[above]):
            return True
        above -= 1
    return False


_INSTEAD = {
    "Add": ("Sub", "Mul"),
    "Sub": ("Add", "Mul"),
    "Mul": ("Add", "Div"),
    "Div": ("Mul", "FloorDiv"),
    "FloorDiv": ("Mod", "Mul"),
    "Mod": ("FloorDiv", "Mul"),
    "Pow": ("Mul", "Add"),
    "BitOr": ("BitAnd", "BitXor"),
    "BitAnd": ("BitOr", "BitXor"),
}
"""Of the ten operators that could stand in place of one, two: the others take as long to refute."""


class _Noise:
    """Changes that say nothing about the tests.

    - Annotations are not run.
    - `is None` made to `== None`, and so for True and False: nothing that is compared with them
      here defines equality with them.
    - `== "x"` made to `is "x"`: the same wherever texts are interned, and a linter refuses it.
    - `== "x"` made to `< "x"` and its like: the words of a vocabulary have no order, so that is
      `==` or `!=` again, or takes those that stand nearby in the alphabet for the word.
    - `if TYPE_CHECKING` is for the type checker.
    - Options in a class statement (`frozen`, `kw_only`) say how values are made.
    - The bare `*` of a signature made to `/`: all arguments before it are given by position.
    """

    def __init__(self, source: str) -> None:
        self.spans: list[tuple[tuple[int, int], tuple[int, int]]] = []
        self.with_none: set[int] = set()
        self.with_text: set[int] = set()
        self.products: set[int] = set()
        for node in ast.walk(ast.parse(source)):
            for field in ("annotation", "returns"):
                inner = getattr(node, field, None)
                if isinstance(inner, ast.expr):
                    self._span(inner)
            if isinstance(node, ast.ClassDef):
                for option in node.keywords:
                    self._span(option.value)
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                self._span(node)
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
                self.products |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
            if isinstance(node, ast.Compare):
                sides = (node.left, *node.comparators)
                constants = [side for side in sides if isinstance(side, ast.Constant)]
                lines = set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
                if any(each.value is None or isinstance(each.value, bool) for each in constants):
                    self.with_none |= lines
                if any(isinstance(each.value, str) for each in constants):
                    self.with_text |= lines

    def _span(self, node: ast.expr | ast.stmt) -> None:
        end = (node.end_lineno or node.lineno, node.end_col_offset or 0)
        self.spans.append(((node.lineno, node.col_offset), end))

    def holds(self, operator: str, start: tuple[int, int]) -> bool:
        if any(begin <= start < end for begin, end in self.spans):
            return True
        if "ReplaceBinaryOperator" in operator:
            _, one, other = operator.rsplit("_", 2)
            if other not in _INSTEAD.get(one, (other,)):
                return True
        line = start[0]
        if "_Mul_" in operator:
            return line not in self.products
        if operator.endswith(("_Is_Eq", "_IsNot_NotEq")):
            return line in self.with_none
        if line not in self.with_text:
            return False
        ordered = operator.endswith(("_Lt", "_LtE", "_Gt", "_GtE")) and "Eq_" in operator
        return ordered or operator.endswith(("_Eq_Is", "_NotEq_IsNot"))


def compiled(text: str, file: str) -> CodeType | None:
    """The code of a mutant, None where it is no Python."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        try:
            return compile(text, file, "exec")
        except SyntaxError:
            return None
