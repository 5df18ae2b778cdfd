"""JSON read strictly, with lines."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.mcp_json import read_json
from gateway.documents import DocumentError


def test_keys_and_items_have_their_lines() -> None:
    text = '{\n\t"a": [1,\n\t\t{"b": "x\\n{\\"c\\": 1}"}\n\t],\n\n\t"d": 2}'
    document = read_json(text, path="x.json")
    assert document.value == {"a": [1, {"b": 'x\n{"c": 1}'}], "d": 2}
    assert document.lines == {
        (): 1,
        ("a",): 2,
        ("a", 0): 2,
        ("a", 1): 3,
        ("a", 1, "b"): 3,
        ("d",): 6,
    }


def test_a_pair_of_escapes_is_one_character() -> None:
    assert read_json('{"a": "\\ud83d\\ude42"}', path="x").value == {"a": "🙂"}


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ('{\n"a": 1,\n}', 3, "Not valid JSON"),
        ("", 1, "Not valid JSON"),
        ('{"a": 1}\n{}', 2, "Not valid JSON"),
        ('{\n// no\n"a": 1}', 2, "Not valid JSON"),
        ('{"a": 1,\n"\\u0061": 2}', 2, "given twice"),
        ('{"x": [{"a": 1,\n "b": 2,\n "a": 3}]}', 3, "given twice"),
        ('{"a": NaN}', 1, "number"),
        ('{"a": ' + "9" * 5000 + "}", 1, "number"),
        ('{"a": "\\ud800"}', 1, "half a character"),
        ("[" * 70 + "]" * 70, 1, "deep"),
        ("[" * 200_000, 1, "deep"),
    ],
)
def test_what_two_readers_could_take_differently_is_refused(
    text: str, line: int, told: str
) -> None:
    with pytest.raises(DocumentError) as caught:
        read_json(text, path="x.json")
    assert told in caught.value.message
    assert (caught.value.path, caught.value.line) == ("x.json", line)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(json_values, st.sampled_from([None, 1, "\t"]), st.booleans())
def test_any_json_is_read_as_the_standard_library_reads_it(
    value: object, indent: int | str | None, ascii_only: bool
) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    document = read_json(text, path="x")
    assert document.value == json.loads(text)
    assert set(document.lines) == set(paths(value))


@given(st.text() | st.text('[]{},:"\\ \n\ttruefalsn0123456789.-'))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        document = read_json(text, path="x")
    except DocumentError:
        return
    assert document.value == json.loads(text.removeprefix("\ufeff"))


def paths(value: object, where: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    found = [where]
    if isinstance(value, dict):
        for key, inner in value.items():
            found += paths(inner, (*where, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            found += paths(inner, (*where, index))
    return found
