"""Rules in words, as `explain` tells them."""

from typing import Any

import pytest

from gateway.policy.wording import arguments_in_words
from tests.policy.ruling import limits


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"properties": {"a": {"const": "x"}}}, "'a' is \"x\""),
        ({"properties": {"a": {"minimum": 1, "maximum": 5}}}, "'a' is at least 1 and is at most 5"),
        ({"properties": {"a": {"pattern": "x.*"}}}, "'a' matches \"x.*\""),
        ({"properties": {"a": {"maxLength": 5}}}, "'a' has at most 5 characters"),
        ({"properties": {"a": {"uniqueItems": True}}}, "'a' does not have an item twice"),
        ({"properties": {"a": False}}, "'a' is absent"),
        ({"properties": {"a": {"properties": {"b": {"const": 1}}}}}, "'a.b' is 1"),
        ({"properties": {"a": {"items": {"const": 1}}}}, "each of 'a' is 1"),
        ({"properties": {"a": {"size": {"max_bytes": 9}}}}, "'a' passes size {\"max_bytes\": 9}"),
        ({"properties": {"a": {}}}, "it has no arguments but those that the rule lists"),
        ({"anyOf": [{"required": ["a"]}]}, "they are as the rest of the schema says"),
    ],
)
def test_arguments(schema: dict[str, Any], words: str) -> None:
    assert arguments_in_words(limits(schema)) == words


def test_what_may_be_absent_is_said() -> None:
    schema = {"properties": {"a": {"const": 1}}}
    assert arguments_in_words(limits(schema, optional=["a"])) == "'a' is 1 or is absent"


def test_long_rules_are_cut() -> None:
    schema = {"properties": {name: {"const": 1} for name in "abcdefg"}}
    assert arguments_in_words(limits(schema)).endswith("'d' is 1; and 3 more")
