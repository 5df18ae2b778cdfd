"""What is taken for a secret, what is not, and that no text takes long."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.redaction.formats import COMPANIONS, FORMATS
from gateway.redaction.redactor import (
    Redactor,
    could_hold_secret,
    redact_text,
    redact_value,
)
from tests.redaction.planted import NAMED, PLANTED

HARMLESS = (
    "max_tokens: 4096, next_page_token=CAUSAg, token_count: 12",
    "The password must have 12 characters; the token expires in 5 minutes.",
    "Authorization: see the docs. Basic authentication and bearer tokens are supported.",
    "commit 8f14e45fceea167a5a36dedd4bea2543cafebabe of task-sk-learn-something",
    "https://user@example.com/a?page=2#b mailto:someone@example.com",
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "01a20903-7bd9-7000-8000-0123456789ab at 10.0.0.1:5432",
    "PASSWORD=${DB_PASSWORD} TOKEN=$TOKEN secret: <your secret> apiKey: string",
    "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
    "token = stored.token\nsecret = base64.encode(x)\nsecrets: tuple[str, ...] = ()\ntokens = []",
    "the URL contains a password: use a header. Authorization: Bearer TOKEN; Bearer ${TOKEN}",
    "select token, secret from sessions where id = 5",
)


@pytest.mark.parametrize("name", PLANTED)
def test_a_secret_of_a_known_format_is_found_wherever_it_stands(name: str) -> None:
    secret = PLANTED[name]
    for text in (secret, f"a {secret} b", f'{{"x":"{secret}"}}', f"x={secret}&y=1", f"({secret})"):
        redacted = redact_text(text)
        assert secret not in redacted
        assert "[redacted: " in redacted
        assert not any(line in redacted for line in secret.split("\n"))


@pytest.mark.parametrize("name", NAMED)
def test_a_secret_is_found_by_what_stands_beside_it(name: str) -> None:
    text, secret = NAMED[name]
    redacted = redact_text(f"before {text} after")
    assert secret not in redacted
    assert redacted.startswith("before ")
    assert redacted.endswith(" after") or name == "cookie"


@pytest.mark.parametrize(
    "text",
    [
        "password: correcthorse",
        "password=$ecret",
        "db.password = my.pass",
        "token: a1b2c3 is it",
        "PASSWORD=hunter",
        "passwd: hunter2 and more",
        "'secret': 'two words'",
        'client_secret = "x.y"',
        "Cookie: a=b; c=d \nnext",
    ],
)
def test_short_and_plain_ones_are_found_by_their_names(text: str) -> None:
    assert "[redacted: " in redact_text(text)


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact_text(text) == text


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "PASSWORD",
        "dbPassword",
        "PGPASSWORD",
        "api_key",
        "apiKey",
        "X-API-Key",
        "APIKey",
    ],
)
def test_members_are_secret_by_their_names(name: str) -> None:
    assert redact_value({name: "x"}) != {name: "x"}
    assert redact_value({name: 4711}) != {name: 4711}
    assert redact_value([{"a": {name: ["x", {"b": "y"}]}}]) != [{"a": {name: ["x", {"b": "y"}]}}]
    assert redact_value({"env": [{"name": name, "value": "x"}]}) != {
        "env": [{"name": name, "value": "x"}]
    }


@pytest.mark.parametrize(
    "value",
    [
        {"token_count": 4, "max_tokens": 5, "secret_name": "db", "password_policy": "strict"},
        {"key": "a", "sort_key": "b", "primary_key": "id", "next_token": "abc"},
        {"password": None, "secret": "", "has_password": True, "auth": False},
        {"properties": {"password": {"type": "string", "description": "The password."}}},
        {"columns": ["password", "email"], "pinned": 1, "author": "x", "design": "y"},
    ],
)
def test_members_that_are_only_about_secrets_stay(value: object) -> None:
    assert redact_value(value) == value


def test_lists_of_options_and_headers_are_read_in_pairs() -> None:
    assert redact_value(["--password", "x", "-v", "--token=y"]) == [
        "--password",
        "[redacted: password]",
        "-v",
        "--token=[redacted: token]",
    ]
    assert redact_value([["X-Api-Key", "x"], ["Accept", "y"]]) == [
        ["X-Api-Key", "[redacted: key]"],
        ["Accept", "y"],
    ]


def test_a_key_is_known_by_its_id_in_another_member() -> None:
    text, secret = NAMED["aws-pair"]
    value = {"first": secret, "id": text.partition(":")[0], "last": [secret]}
    assert secret not in json.dumps(redact_value(value))


def test_a_key_that_is_cut_off_is_taken_out_all_the_same() -> None:
    key = PLANTED["private-key"]
    lines = key.split("\n")
    for part in (key[:-40], key[40:], key[:90] + "\nother text: yes"):
        assert not any(line in redact_text(part) for line in lines[1:-1])


def test_numbers_may_stay_numbers() -> None:
    redactor = Redactor(keep_types=True)
    assert redactor.value({"pin": 1234, "pins": 2}) == {"pin": 0, "pins": 2}
    assert redactor.counts == {"password": 1}


def test_what_was_taken_out_is_counted_by_kind() -> None:
    redactor = Redactor()
    redactor.value({"password": "x", "a": [PLANTED["npm"], PLANTED["npm"]]})
    assert redactor.counts == {"password": 1, "npm-token": 2}


_SECRETS = st.sampled_from([*PLANTED.values(), *(text for text, _ in NAMED.values())])
_PIECES = st.lists(st.one_of(st.text(max_size=20), _SECRETS), max_size=6)
_TEXTS = st.builds(" ".join, _PIECES)
_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), _TEXTS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.one_of(st.text(max_size=8), st.sampled_from(["password", "name", "value", "type"])),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)


@given(_VALUES)
def test_redacting_twice_is_as_once_and_leaves_nothing_of_what_is_known(value: object) -> None:
    redacted = redact_value(value)
    assert redact_value(redacted) == redacted
    text = json.dumps(redacted)
    for name in ("npm", "jwt", "stripe", "google-api-key", "github-classic"):
        assert PLANTED[name] not in text


@given(_VALUES)
def test_what_cannot_hold_a_secret_holds_none(value: object) -> None:
    if not could_hold_secret(json.dumps(value, ensure_ascii=False)):
        assert redact_value(value) == value


_HARD = sorted(
    {literal for form in (*FORMATS, *COMPANIONS) for literal in form.literals}
    | {"eyJ", "eyJa.", "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----", "[redacted: x]"}
    | {"token=", "token='", 'token="\\', "password: ", "cookie: ", "Authorization: ", "--token "}
    | {"password:/", "pwd:/a", "token:::", "apikey=::", "private_key::"}
    | {"://a:", "://a:b@", "curl -u a:", "identified by '", "M" * 24 + ".", "A/+9", "&sig="}
)


def test_no_text_takes_more_than_time_in_proportion_to_its_length() -> None:
    """Not how long: how much longer for ten times the text, in the sum over all hostile ones."""
    hostile = [pattern for each in _HARD for pattern in (each, each + "A" * 20, each + " ")]
    hostile = [*hostile, *(each + "\0" for each in _HARD)]

    def spent(size: int) -> list[float]:
        times = []
        for piece in hostile:
            long = piece.replace("\0", "a" * size) if "\0" in piece else piece * size
            started = time.process_time()
            redact_text(long[:size])
            times.append(time.process_time() - started)
        return times

    short, long = spent(2_000), spent(20_000)
    for piece, one, ten in zip(hostile, short, long, strict=True):
        # Quadratic would be a hundred times as much.
        assert ten < 40 * max(one, 0.002), piece
