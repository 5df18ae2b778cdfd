"""Which changes of the decision code are made, and which comments argue for what survives."""

from pathlib import Path

import pytest

from tests.mutation import mutants

SOURCE = """\
def f(x: int | None, *, y: str = "") -> int | None:
    if x is None or y == "a":
        return None
    # Mutants: whatever is added, it is thrown away.
    x + 1
    return x  # mutant: there is none
"""


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "module.py").write_text(SOURCE)
    monkeypatch.setattr(mutants, "ROOT", tmp_path)
    return "module.py"


def test_changes_that_say_nothing_are_left_out(made: str) -> None:
    found = list(mutants.mutants_of(made))
    names = {(each.line, each.operator.removeprefix("core/")) for each in found}
    assert (2, "ReplaceComparisonOperator_Is_IsNot") in names
    assert (2, "ReplaceComparisonOperator_Eq_NotEq") in names
    assert (2, "ReplaceOrWithAnd") in names
    assert (5, "ReplaceBinaryOperator_Add_Sub") in names
    assert not [name for line, name in names if line == 1]
    assert not [name for _, name in names if name.endswith(("_Is_Eq", "_Eq_Lt", "_Eq_Is"))]
    assert all(each.text != SOURCE for each in found)


def test_some_may_be_asked_for_by_name(made: str) -> None:
    assert {each.line for each in mutants.mutants_of(made, "module.py:5")} == {5}


def test_a_comment_argues_for_its_line_and_the_one_below(made: str) -> None:
    argued = [line for line in range(1, 7) if mutants.argument_for(made, line)]
    assert argued == [4, 5, 6]


def test_everything_that_decides_is_mutated() -> None:
    assert all((mutants.ROOT / path).is_file() for path in mutants.modules())
    assert len(set(mutants.modules())) == len(mutants.modules())
