"""The guard `size`."""

import pytest

from gateway.policy.guards import build


def _deep(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("options", "value", "allowed"),
    [
        ({"max_bytes": 4}, "abcd", True),
        ({"max_bytes": 4}, "abcde", False),
        ({"max_bytes": 4}, "\u00e4\u00e4", True),
        ({"max_bytes": 4}, "\u00e4\u00e4a", False),
        ({"max_bytes": 4}, "\udcff", False),
        ({"max_bytes": 5}, [1, 2], True),
        ({"max_bytes": 4}, [1, 2], False),
        ({"max_bytes": 100}, _deep(3000), False),
        ({"max_items": 2}, [1, 2], True),
        ({"max_items": 2}, [1, 2, 3], False),
        ({"max_items": 2}, {"a": [1, 2, 3]}, False),
        ({"max_items": 2}, "abc", True),
        ({"max_depth": 0}, 1, True),
        ({"max_depth": 0}, [], False),
        ({"max_depth": 2}, [[1]], True),
        ({"max_depth": 2}, [{"a": []}], False),
        ({"max_depth": 9}, _deep(3000), False),
        ({"max_bytes": 0}, "", True),
        ({"max_bytes": 100, "max_items": 1, "max_depth": 1}, [1], True),
    ],
)
def test_sizes(options: dict[str, object], value: object, allowed: bool) -> None:
    assert (build("size", options).check(value) is None) is allowed
