"""Edits of JSON with comments change what they say and nothing else."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.documents import DocumentError
from gateway.install.jsonc import Text, parse

_TOKEN = re.compile(
    r'//[^\r\n]*|/\*(?s:.*?)\*/|"(?:[^"\\]|\\.)*"|[\[\]{}:]|,|[^\s"\[\]{}:,/]+|[\s\ufeff]+'
)

keys = st.text(max_size=4) | st.sampled_from(["env", "args", "ключ", "a b", 'q"', "// no"])
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**6), 10**6)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6)
    | st.sampled_from(["/* x */", "a // b", "},{"])
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)
gaps = st.sampled_from(
    ["", "", "", " ", "\n", "\r\n", "\t", "\n    ", "/* c */", "// to the end\n", "/* a\n b */ "]
)


@st.composite
def documents(draw: st.DrawFn, value: Any = None) -> tuple[str, Any]:
    """A text with odd spacing and comments, and what it means."""
    meaning = draw(values) if value is None else value

    def text_of(value: object) -> str:
        if not isinstance(value, dict | list):
            return json.dumps(value, ensure_ascii=draw(st.booleans()))
        parts = []
        for each in value:
            key = f"{json.dumps(each)}{draw(gaps)}:" if isinstance(value, dict) else ""
            inner = value[each] if isinstance(value, dict) else each
            parts.append(f"{draw(gaps)}{key}{draw(gaps)}{text_of(inner)}{draw(gaps)}")
        comma = "," if parts and draw(st.booleans()) else ""
        inside = ",".join(parts) + comma + draw(gaps)
        return f"{{{inside}}}" if isinstance(value, dict) else f"[{inside}]"

    bom = draw(st.sampled_from(["", "", "\ufeff"]))
    return f"{bom}{draw(gaps)}{text_of(meaning)}{draw(gaps)}", meaning


def tokens(text: str) -> list[str]:
    """Everything but blanks and commas, comments included."""
    assert "".join(_TOKEN.findall(text)) == text
    return [each for each in _TOKEN.findall(text) if each != "," and each.strip(" \t\r\n\ufeff")]


def places(value: object, where: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    found = [where]
    if isinstance(value, dict):
        for key, inner in value.items():
            found += places(inner, (*where, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            found += places(inner, (*where, index))
    return found


def at(value: Any, where: tuple[str | int, ...]) -> Any:
    for key in where:
        value = value[key]
    return value


def same(text: Text, meaning: object) -> bool:
    """Whether `text` means `meaning`, the order of its keys included."""
    again = Text(text.text, path="again.json")
    return json.dumps(again.value) == json.dumps(meaning)


class TestReading:
    @given(documents())
    def test_any_document_is_read_as_what_it_means(self, document: tuple[str, Any]) -> None:
        text, meaning = document
        assert same(Text(text, path="x.json"), meaning)

    @given(values, st.sampled_from([None, 1, 4, "\t"]))
    def test_plain_json_means_what_the_standard_library_says(
        self, value: object, indent: int | str | None
    ) -> None:
        assert same(Text(json.dumps(value, indent=indent), path="x.json"), value)

    @given(st.text(alphabet='{}[]":,/*\\ \n0123.e-atrufls\ufeff', max_size=30))
    def test_what_is_accepted_without_comments_is_json(self, text: str) -> None:
        try:
            value = Text(text, path="x.json").value
        except DocumentError:
            return
        if "/" not in text and not re.search(r",\s*[\]}]", text):
            assert json.dumps(json.loads(text.removeprefix("\ufeff"))) == json.dumps(value)

    @pytest.mark.parametrize(
        ("text", "line", "column", "problem"),
        [
            ('{\n  "a": 1\n  "b": 2\n}', 3, 3, "a comma or } is expected"),
            ('{"a": 1, "a": 2}', 1, 10, "given twice"),
            ('{"x": {"a": 1,\n "b": 0, "a": 2}}', 2, 10, "given twice"),
            ('{"a": 01}', 1, 7, "a value is expected"),
            ('{"a": NaN}', 1, 7, "a value is expected"),
            ("\ufeff{'a': 1}", 1, 2, "a key in double quotes"),
            ('{"a" 1}', 1, 6, "a colon"),
            ('{"a": "\\x"}', 1, 7, "not closed"),
            ('{"a": 1', 1, 8, "a comma or }"),
            ("{} {}", 1, 4, "follows the end"),
            ("", 1, 1, "too early"),
            ("[,]", 1, 2, "a value is expected"),
            ("[1,,]", 1, 4, "a value is expected"),
            ("{} /* open", 1, 4, "a comment is not closed"),
            ("[" * 300, 1, 202, "nested deeper"),
        ],
    )
    def test_mistakes_are_told_with_line_and_column(
        self, text: str, line: int, column: int, problem: str
    ) -> None:
        with pytest.raises(DocumentError) as raised:
            Text(text, path="x.json")
        assert (raised.value.path, raised.value.line) == ("x.json", line)
        assert f"at column {column}: " in raised.value.message
        assert problem in raised.value.message

    def test_bytes_that_are_not_utf8_are_a_mistake(self) -> None:
        with pytest.raises(DocumentError) as raised:
            parse(b'{\n"a": "\xff"}', path="x.json")
        assert raised.value.line == 2

    def test_a_long_document_is_read_quickly(self) -> None:
        members = {f"key {number}": {"history": ["text" * 20] * 20} for number in range(2000)}
        assert Text(json.dumps(members, indent=2), path="x.json").value == members


class TestEditing:
    @given(documents(), st.data())
    def test_a_replaced_value_leaves_every_other_character(
        self, document: tuple[str, Any], data: st.DataObject
    ) -> None:
        text, meaning = document
        where = data.draw(st.sampled_from(places(meaning)))
        new = data.draw(values)
        before = Text(text, path="x.json")
        node = before.find(*where)
        assert node is not None
        after = before.replace(where, before.render(new, where))
        expected = new
        if where:
            expected = json.loads(json.dumps(meaning))
            at(expected, where[:-1])[where[-1]] = new
        assert same(after, expected)
        assert after.text.startswith(text[: node.start])
        assert after.text.endswith(text[node.end :])

    @given(documents(), st.data())
    def test_an_inserted_member_leaves_everything_else(
        self, document: tuple[str, Any], data: st.DataObject
    ) -> None:
        text, meaning = document
        objects = [each for each in places(meaning) if isinstance(at(meaning, each), dict)]
        if not objects:
            return
        where = data.draw(st.sampled_from(objects))
        members = at(meaning, where)
        key = data.draw(keys.filter(lambda key: key not in members))
        new = data.draw(values)
        front = data.draw(st.booleans())
        follows = data.draw(st.sampled_from([None, *members]))
        before = Text(text, path="x.json")
        raw = before.render(new, (*where, key))
        after = before.insert(where, key, raw, after=follows, front=front)
        pairs = list(members.items())
        index = 0 if front else len(pairs)
        if follows is not None and not front:
            index = [*members].index(follows) + 1
        pairs.insert(index, (key, new))
        expected = json.loads(json.dumps([meaning]))
        at(expected, (0, *where)).clear()
        at(expected, (0, *where)).update(pairs)
        assert same(after, expected[0])
        assert self.without(
            tokens(after.text), tokens(f"{json.dumps(key, ensure_ascii=False)}:{raw}"), tokens(text)
        )
        assert same(after.remove((*where, key)), meaning)

    @given(documents(), st.data())
    def test_an_appended_item_leaves_everything_else(
        self, document: tuple[str, Any], data: st.DataObject
    ) -> None:
        text, meaning = document
        lists = [each for each in places(meaning) if isinstance(at(meaning, each), list)]
        if not lists:
            return
        where = data.draw(st.sampled_from(lists))
        new = data.draw(values)
        before = Text(text, path="x.json")
        raw = before.render(new, (*where, len(at(meaning, where))))
        after = before.append(where, raw)
        expected = json.loads(json.dumps(meaning))
        at(expected, where).append(new)
        assert same(after, expected)
        assert self.without(tokens(after.text), tokens(raw), tokens(text))

    @given(documents(), st.data())
    def test_a_removed_part_leaves_everything_else(
        self, document: tuple[str, Any], data: st.DataObject
    ) -> None:
        text, meaning = document
        parts = [each for each in places(meaning) if each]
        if not parts:
            return
        where = data.draw(st.sampled_from(parts))
        before = Text(text, path="x.json")
        container = before.find(*where[:-1])
        assert container is not None
        part = next(part for part in container.parts or () if part.key == where[-1])
        after = before.remove(where)
        expected = json.loads(json.dumps(meaning))
        del at(expected, where[:-1])[where[-1]]
        assert same(after, expected)
        removed = tokens(text[part.start : part.node.end])
        assert self.without(tokens(text), removed, tokens(after.text))

    @staticmethod
    def without(longer: list[str], part: list[str], shorter: list[str]) -> bool:
        """Whether `longer` is `shorter` with `part` put in at one place."""
        return any(
            longer[start : start + len(part)] == part
            and longer[:start] + longer[start + len(part) :] == shorter
            for start in range(len(shorter) + 1)
        )


class TestStyle:
    """What is new looks like its surroundings."""

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ('{\n  "a": 1\n}\n', '{\n  "a": 1,\n  "new": {\n    "x": [1, 2]\n  }\n}\n'),
            ('{\r\n\t"a": 1\r\n}', '{\r\n\t"a": 1,\r\n\t"new": {\r\n\t\t"x": [1, 2]\r\n\t}\r\n}'),
            ('{ "a": 1 }', '{ "a": 1, "new": {"x": [1, 2]} }'),
            ('{"a":1}', '{"a":1, "new": {"x": [1, 2]}}'),
            (
                '{\n   "a": 1, // one\n   // two\n}',
                '{\n   "a": 1, // one\n   "new": {\n      "x": [1, 2]\n   },\n   // two\n}',
            ),
            (
                '{\n  "a": 1 // one\n}',
                '{\n  "a": 1, // one\n  "new": {\n    "x": [1, 2]\n  }\n}',
            ),
            ("{}", '{\n  "new": {\n    "x": [1, 2]\n  }\n}'),
            ("{\n}\n", '{\n  "new": {\n    "x": [1, 2]\n  }\n}\n'),
            ("\ufeff{\n  // no\n}", '\ufeff{\n  "new": {\n    "x": [1, 2]\n  }\n  // no\n}'),
        ],
    )
    def test_a_member_at_the_end(self, text: str, expected: str) -> None:
        document = Text(text, path="x.json")
        raw = document.render({"x": [1, 2]}, ("new",))
        assert document.insert((), "new", raw).text == expected

    def test_deep_places_take_the_indentation_of_the_file(self) -> None:
        document = Text('{\n    "a": {\n        "b": {}\n    }\n}\n', path="x.json")
        raw = document.render({"x": [{"y": 1}]}, ("a", "b", "c"))
        assert document.insert(("a", "b"), "c", raw).text == (
            '{\n    "a": {\n        "b": {\n            "c": {\n                "x": [\n'
            '                    {\n                        "y": 1\n                    }\n'
            "                ]\n            }\n        }\n    }\n}\n"
        )

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ('{\n  "a": 1, // one\n  "b": 2\n}\n', '{\n  "a": 1 // one\n}\n'),
            ('{\n  "b": 2, // two\n  "a": 1\n}\n', '{\n  // two\n  "a": 1\n}\n'),
            ('{ "a": 1, "b": 2 }', '{ "a": 1 }'),
            ('{ "b": 2, "a": 1 }', '{ "a": 1 }'),
            ('{\n  "b": {\n    "c": 1\n  },\n  "a": 1,\n}', '{\n  "a": 1,\n}'),
            ('{\n  "b": 1\n}', "{}"),
            ('{\n  "a": 1, "b": 2,\n  "c": 3\n}', '{\n  "a": 1,\n  "c": 3\n}'),
        ],
    )
    def test_a_removed_member_takes_its_lines_with_it(self, text: str, expected: str) -> None:
        assert Text(text, path="x.json").remove(("b",)).text == expected

    def test_a_lone_surrogate_elsewhere_is_left_as_it_is(self) -> None:
        text = '{"history": "\\ud800", "a": 1}'
        document = Text(text, path="x.json")
        assert document.replace(("a",), "2").text == text.replace("1", "2")
