"""YAML is read strictly, with lines, and every failure is a DocumentError that says where."""

import contextlib

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gateway.documents import MAX_DEPTH, Document, DocumentError, read_yaml


def read(text: str) -> Document:
    return read_yaml(text, path="some.yaml")


@pytest.fixture(params=["libyaml", "python"], autouse=True)
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test holds for both of PyYAML's parsers."""
    if request.param == "python":
        monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    elif not yaml.__with_libyaml__:
        pytest.skip("PyYAML was built without libyaml")


def test_values_come_with_the_line_of_each_key_and_item() -> None:
    document = read_yaml(
        "name: x\nlist:\n  - a\n  - deep:\n      er: 1\n", path="p.yaml", first_line=10
    )
    assert document.value == {"name": "x", "list": ["a", {"deep": {"er": 1}}]}
    assert document.line() == 10
    assert document.line("name") == 10
    assert document.line("list") == 11
    assert document.line("list", 1, "deep", "er") == 14
    assert document.line("list", 0, "absent") == 12
    assert document.line("absent") == 10


def test_an_empty_document_is_none() -> None:
    assert read("# only a comment\n").value is None
    assert read("").line("x") == 1


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("on", "on"),
        ("NO", "NO"),
        ("2026-01-31", "2026-01-31"),
        ("12:30", "12:30"),
        ("1_000", "1_000"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("0x1f", 31),
        ("0o17", 15),
        ("017", 17),
        ("-5", -5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("-.inf", float("-inf")),
        ("'true'", "true"),
        ("!!str 5", "5"),
        ("! 5", "5"),
        ("!!int '5'", 5),
    ],
)
def test_plain_scalars_resolve_as_in_yaml_1_2(text: str, value: object) -> None:
    result = read(f"key: {text}").value
    assert result == {"key": value}
    assert isinstance(result, dict)
    assert type(result["key"]) is type(value)


def test_keys_are_strings_as_written() -> None:
    assert read("8080: a\ntrue: b\n~: c\n").value == {"8080": "a", "true": "b", "~": "c"}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\nb: 2\na: 3\n", 3),
        ("a: 1\n'a': 2\n", 2),
        ('a: 1\n"\\x61": 2\n', 2),
        ("x:\n  - {b: 1}\n  - {c: 1,\n     c: 2}\n", 4),
        ("x: &m {a: 1}\ny:\n  <<: *m\n  <<: *m\n", 4),
    ],
)
def test_a_doubled_key_is_refused_at_every_level(text: str, line: int) -> None:
    with pytest.raises(DocumentError, match="given twice") as caught:
        read(text)
    assert caught.value.path == "some.yaml"
    assert caught.value.line == line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: b: c", 1),
        ("ok: 1\nx: [a\n", 3),
        ("x: *nobody", 1),
        ("a\n--- b\n", 2),
        ("? [a]\n: b\n", 1),
        ("x: !!python/object/apply:os.system [id]", 1),
        ("x: !!binary aGk=", 1),
        ("x: !!int five", 1),
        ("x: !!str {a: b}", 1),
        ("x: !mine y", 1),
        ("a: 1\nb: x\u2028c: 2\n", 2),
        ("a: x\x85", 1),
        ("a: x\rb: y", 1),
        ("a: x\x00", 1),
        ("a: \ud800", 1),
        ("&a [*a]", 1),
        ("x: &m [1]\ny:\n  <<: *m\n", 3),
        ("n: " + "9" * 5000, 1),
        ("[" * (MAX_DEPTH + 2), 1),
    ],
)
def test_what_cannot_be_read_safely_is_refused_with_its_line(text: str, line: int) -> None:
    with pytest.raises(DocumentError) as caught:
        read(text)
    assert caught.value.line == line
    assert str(caught.value).startswith(f"some.yaml:{line}: ")


def test_aliases_and_merge_keys_are_followed_and_reported_as_indirect() -> None:
    document = read(
        "base: &base {a: 1, b: 2}\n"
        "use:\n  <<: *base\n  b: 3\n"
        "same: *base\n"
        "tagged: !!str 5\n"
        "plain: [x]\n"
    )
    assert document.value == {
        "base": {"a": 1, "b": 2},
        "use": {"a": 1, "b": 3},
        "same": {"a": 1, "b": 2},
        "tagged": "5",
        "plain": ["x"],
    }
    assert document.indirect == {("base",), ("use", "a"), ("same",), ("tagged",)}
    assert document.is_indirect("use")
    assert not document.is_indirect("use", "b")
    assert not document.is_indirect("plain")


def test_aliased_values_are_copies() -> None:
    value = read("a: &x [1]\nb: *x\n").value
    assert isinstance(value, dict)
    assert value["a"] is not value["b"]


def test_aliases_that_multiply_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(DocumentError, match="fewer aliases"):
        read("\n".join(lines))


def test_merge_keys_that_multiply_or_nest_without_end_are_refused() -> None:
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{n}: &a{n} {{<<: *a{n - 1}}}" for n in range(1, 200)]
    with pytest.raises(DocumentError):
        read("\n".join(lines))


@given(st.text() | st.text(alphabet="ab:-?[]{}#&*!|>'\"%@` \n\t<~1.", max_size=60))
def test_reading_raises_nothing_but_document_error(text: str) -> None:
    with contextlib.suppress(DocumentError):
        document = read_yaml(text, path="p")
        assert all(line >= 1 for line in document.lines.values())


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet="abyesno: #-'\"\n", max_size=12),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(alphabet="abcxyz", min_size=1, max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text(alphabet="abcxyz", min_size=1, max_size=3), _values))
def test_what_a_safe_dumper_writes_is_read_back(value: dict[str, object]) -> None:
    class Plain(yaml.SafeDumper):
        def ignore_aliases(self, data: object) -> bool:
            return True

    text = yaml.dump(value, Dumper=Plain)
    assert read_yaml(text, path="p").value == value
