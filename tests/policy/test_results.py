"""Which rules about results apply, that the strictest value holds, and what treating leaves."""

import json
import re
from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.results import (
    NO_TREATMENT,
    ResultRule,
    ResultRules,
    Treatment,
    strictest,
    with_former,
)
from gateway.policy.stripping import stripped
from gateway.policy.treating import UNTRUSTED, Treating
from gateway.redaction.chunks import CHUNK_CHARS, chunks
from tests.redaction.planted import PLANTED


def rule(name: str = "r", tools: tuple[str, ...] = ("mcp__web__*",), **more: Any) -> ResultRule:
    return ResultRule(name=name, file="p.yaml", line=1, tools=tools, **more)


def treat(value: dict[str, Any], **treatment: bool) -> tuple[dict[str, Any], Counter[str]]:
    treating = Treating(Treatment(**treatment), source="mcp__web__get", nonce="0123456789ab")
    return treating.result(value), treating.counts


class TestWhichApply:
    def test_a_rule_is_about_its_tools_and_agents(self) -> None:
        rules = ResultRules([rule(tools=("mcp__web__get",), agents=("a*",), strip=True)])
        assert rules.of_tool("ann", "mcp__web__get").enforced.strip
        assert rules.of_tool("bob", "mcp__web__get").enforced == NO_TREATMENT
        assert rules.of_tool("ann", "mcp__web__put").enforced == NO_TREATMENT

    @pytest.mark.parametrize(
        ("pattern", "covers"),
        [
            ("*", True),
            ("mcp__*", True),
            ("mcp__web__*", True),
            ("mcp__web__get*", False),
            ("mcp__web__get", False),
            ("mcp__other__*", False),
        ],
    )
    def test_resources_and_prompts_belong_to_rules_about_every_tool(
        self, pattern: str, covers: bool
    ) -> None:
        rules = ResultRules([rule(tools=(pattern,), redact=True)])
        assert rules.of_upstream("a", "web").enforced.redact is covers

    def test_a_task_may_be_of_any_tool(self) -> None:
        rules = ResultRules([rule(tools=("mcp__web__get",), redact=True)])
        assert rules.of_task("a", "web").enforced.redact
        assert rules.of_task("a", "other").enforced == NO_TREATMENT

    def test_what_is_observed_is_told_apart(self) -> None:
        rules = ResultRules([rule("a", strip=True), rule("b", mark=True, observe=True)])
        both = rules.of_tool("a", "mcp__web__get")
        assert both.enforced == Treatment(strip=True)
        assert both.observed == Treatment(strip=True, mark=True)
        assert rules.of_tool("a", "mcp__web__get", observe=True).enforced == NO_TREATMENT

    def test_a_former_rule_holds_beside_the_new_ones(self) -> None:
        now, before = rule("a", max_bytes=10), rule("a", max_bytes=5, redact=True)
        held = ResultRules(with_former([now], [before, now]))
        assert held.of_tool("x", "mcp__web__get").enforced == Treatment(max_bytes=5, redact=True)
        assert [each.former for each in held.rules] == [False, True]


_RULES = st.builds(
    rule,
    name=st.sampled_from("abc"),
    tools=st.sampled_from([("*",), ("mcp__web__*",), ("mcp__web__get",), ("mcp__x__*",)]),
    agents=st.sampled_from([(), ("a",), ("b",)]),
    max_bytes=st.one_of(st.none(), st.integers(1, 50)),
    redact=st.booleans(),
    strip=st.booleans(),
    mark=st.booleans(),
    observe=st.booleans(),
)


def stricter(one: Treatment, other: Treatment) -> bool:
    """Whether `one` is at least as strict as `other`."""
    capped = other.max_bytes is None or (
        one.max_bytes is not None and one.max_bytes <= other.max_bytes
    )
    return capped and all(
        getattr(one, key) >= getattr(other, key) for key in ("redact", "strip", "mark")
    )


@given(st.lists(_RULES, max_size=6), _RULES, st.randoms())
def test_order_never_matters_and_one_rule_more_is_never_less_strict(
    rules: list[ResultRule], other: ResultRule, random: Any
) -> None:
    shuffled = rules[:]
    random.shuffle(shuffled)
    assert strictest(rules) == strictest(shuffled)
    before = ResultRules(rules).of_tool("a", "mcp__web__get")
    after = ResultRules([*shuffled, other]).of_tool("a", "mcp__web__get")
    assert stricter(after.enforced, before.enforced)
    assert stricter(after.observed, after.enforced)


# What treating leaves

_HOSTILE = (
    *("\x1b[31m", "\x1b]0;t\x07", "\x9b1m", "\x1b", "\x00", "\x7f", "\u202e", "\u2066", "\u200b"),
    *("\u200d", "\u200c", "\ufe0f", "\ufe0e", "\U000e0041", "\ufeff", "\u00e9", "\u2764", "a", "1"),
)
_STRIPPED = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200b\ufeff\U000e0000-\U000e007f]"
)
_TEXTS = st.lists(
    st.one_of(
        st.sampled_from(_HOSTILE), st.text(max_size=6), st.sampled_from(list(PLANTED.values()))
    ),
    max_size=8,
).map(" ".join) | st.lists(st.sampled_from(_HOSTILE), max_size=12).map("".join)
_JSON: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**60), 2**60), _TEXTS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.one_of(_TEXTS, st.sampled_from(["password", "text", "uri", "blob", "data", "type"])),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=10,
)
_RESULTS = st.fixed_dictionaries(
    {
        "content": st.lists(
            st.one_of(
                st.fixed_dictionaries({"type": st.just("text"), "text": _TEXTS}),
                st.fixed_dictionaries(
                    {
                        "type": st.just("resource"),
                        "resource": st.fixed_dictionaries({"uri": _TEXTS, "text": _TEXTS}),
                    }
                ),
                st.fixed_dictionaries({"type": st.just("resource_link"), "uri": _TEXTS}),
            ),
            max_size=3,
        )
    },
    optional={"structuredContent": _JSON, "_meta": st.dictionaries(_TEXTS, _JSON, max_size=2)},
)


def strings(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [*value, *(each for item in value.values() for each in strings(item))]
    return [each for item in value for each in strings(item)] if isinstance(value, list) else []


def shape(value: object) -> object:
    """Types and nesting; how many members, not what they are called."""
    if isinstance(value, dict):
        return [shape(item) for item in value.values()]
    if isinstance(value, list):
        return [shape(item) for item in value]
    return type(value)


@given(_RESULTS)
def test_treating_twice_is_as_once(result: dict[str, Any]) -> None:
    once, _ = treat(result, redact=True, strip=True, mark=True)
    twice, counts = treat(once, redact=True, strip=True, mark=True)
    assert twice == once
    assert not counts


@given(_RESULTS)
def test_no_planted_secret_and_no_stripped_character_is_left(result: dict[str, Any]) -> None:
    treated, _ = treat(result, redact=True, strip=True)
    for text in strings(treated.get("structuredContent")) + strings(
        [block.get("text") or block.get("uri") or block for block in treated["content"]]
    ):
        assert _STRIPPED.search(text) is None
        assert PLANTED["npm"] not in text
        assert PLANTED["jwt"] not in text
        assert PLANTED["stripe"] not in text


@given(_RESULTS)
def test_what_is_left_is_json_of_the_same_shape(result: dict[str, Any]) -> None:
    treated, _ = treat(result, redact=True, strip=True)
    assert shape(treated) == shape(result)
    assert json.loads(msgspec.json.encode(treated)) == treated


def test_a_sequence_that_does_not_end_is_not_read_over_the_next_one() -> None:
    counts: Counter[str] = Counter()
    assert stripped("a\x90b\x90c\x9cd\x1b]0;e\x07f\x9dg\x1b\\h", counts) == "abdfh"
    assert counts == {"stripped ansi": 4}


@given(_TEXTS)
def test_stripping_twice_is_as_once(text: str) -> None:
    once = stripped(text, Counter())
    assert stripped(once, Counter()) == once


@pytest.mark.parametrize(
    "text",
    [
        "plain\ttext\r\nof lines",
        "\U0001f469\u200d\u2764\ufe0f\u200d\U0001f468 1\ufe0f\u20e3",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \u0915\u094d\u200d\u0937",
        "na\u00efve \u4f60\u597d \u00a0",
    ],
)
def test_text_that_people_write_stays(text: str) -> None:
    counts: Counter[str] = Counter()
    assert stripped(text, counts) == text
    assert not counts


def test_binary_content_and_what_is_handed_back_stay_as_they_are() -> None:
    result = {
        "content": [{"type": "image", "data": PLANTED["npm"], "mimeType": "image/png"}],
        "contents": [{"uri": "x://y", "blob": PLANTED["npm"]}],
        "requestState": PLANTED["jwt"],
        "nextCursor": PLANTED["jwt"],
    }
    treated, counts = treat(result, redact=True, strip=True)
    assert treated == result
    assert not counts


@pytest.mark.parametrize(
    "content",
    [
        {"type": "resource", "resource": {"uri": "x://y", "blob": {"text": PLANTED["npm"]}}},
        {"type": "image", "data": [PLANTED["npm"]]},
        {"type": "text", "text": "", "blob": PLANTED["npm"]},
    ],
)
def test_what_only_has_the_name_of_binary_content_is_treated(content: dict[str, Any]) -> None:
    treated, counts = treat({"content": [content]}, redact=True)
    assert PLANTED["npm"] not in json.dumps(treated)
    assert counts == {"redacted npm-token": 1}


def test_only_texts_are_marked_and_the_result_says_so_once() -> None:
    result = {"content": [{"type": "text", "text": "a"}], "structuredContent": {"text": "a"}}
    treated, counts = treat(result, mark=True)
    assert treated["content"][0]["text"].split("\n")[1] == "a"
    assert treated["structuredContent"] == {"text": "a"}
    assert treated["_meta"] == {UNTRUSTED: "mcp__web__get"}
    assert counts == {"marked": 2}


@given(st.integers(0, 4), st.sampled_from(["\n", ",", " ", "x"]))
def test_pieces_of_a_long_text_are_the_text(number: int, filler: str) -> None:
    text = ("word" + filler) * (number * CHUNK_CHARS // 4)
    pieces = list(chunks(text))
    assert "".join(pieces) == text
    assert max(map(len, pieces)) <= 6 * CHUNK_CHARS
