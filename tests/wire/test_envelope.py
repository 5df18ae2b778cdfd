"""Envelopes: accepted is what every parser reads alike, and nothing else."""

import base64
import contextlib
import json
import random
import re
import subprocess
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.wire import frames
from gateway.wire.envelope import (
    _DECODED_BYTES as PIECE,
)
from gateway.wire.envelope import (
    MAX_BATCH,
    MalformedFrame,
    Message,
    Notification,
    Request,
    Response,
    is_utf8,
    parse,
    split_batch,
)

MEMBERS = ("jsonrpc", "id", "method", "params", "result", "error")
SPACE = st.text(" \t\r\n", max_size=2)
SMALL = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
LIKELY = {
    "jsonrpc": st.just("2.0") | st.sampled_from(["1.0", 2.0, None]),
    "id": st.integers() | st.text(max_size=4) | st.sampled_from([None, True, 1.5, [1]]),
    "method": st.sampled_from(["ping", "tools/call"]) | st.sampled_from(["", None, 7]),
    "params": st.dictionaries(st.text(max_size=3), SMALL, max_size=3) | SMALL,
    "result": SMALL,
    "error": st.dictionaries(st.sampled_from(["code", "message"]), SMALL) | SMALL,
}


@st.composite
def written(draw: st.DrawFn, value: object) -> str:
    """JSON text of a value: any of the escapes, any of the spacing."""
    text = json.dumps(value, ensure_ascii=draw(st.booleans()))
    return draw(SPACE) + text + draw(SPACE)


@st.composite
def envelopes(draw: st.DrawFn) -> tuple[bytes, list[tuple[str, str]]]:
    """A frame of likely members, and its members as they are written."""
    chosen = draw(
        st.lists(st.sampled_from(MEMBERS), min_size=1, max_size=5, unique=draw(st.booleans()))
    )
    if draw(st.integers(0, 4)):
        chosen = ["jsonrpc", *(name for name in chosen if name != "jsonrpc")]
    members = []
    for name in draw(st.permutations(chosen)):
        spelling = name
        if draw(st.integers(0, 19)) == 0:
            variants = (name.upper(), name.title(), f"\\u{ord(name[0]):04x}{name[1:]}", name + " ")
            spelling = draw(st.sampled_from(variants))
        members.append((spelling, draw(written(draw(LIKELY[name])))))
    text = ",".join(f'{draw(SPACE)}"{name}"{draw(SPACE)}:{value}' for name, value in members)
    return f"{draw(SPACE)}{{{text}}}{draw(SPACE)}".encode(), members


def reference(members: list[tuple[str, str]]) -> tuple[Any, ...] | None:
    """What a message means by the rules of JSON-RPC, told by another parser; None: refused."""
    names = [name for name, _ in members]
    if len(set(names)) != len(names) or not set(names) <= set(MEMBERS):
        return None
    message = {name: json.loads(value) for name, value in members}
    identifier = message.get("id")
    if message.get("jsonrpc") != "2.0" or isinstance(identifier, bool | float | list):
        return None
    if "method" in message:
        if not isinstance(message["method"], str) or set(message) & {"result", "error"}:
            return None
        params = message.get("params", {})
        if not isinstance(params, dict) or ("id" in message and identifier is None):
            return None
        kind = "request" if "id" in message else "notification"
        return (kind, identifier, message["method"], message.get("params"))
    if "params" in message or "id" not in message or ("result" in message) == ("error" in message):
        return None
    if "error" in message:
        error = message["error"]
        return ("error", identifier, error) if isinstance(error, dict) else None
    return ("result", identifier, message["result"]) if identifier is not None else None


def meaning(message: Message) -> tuple[Any, ...]:
    if isinstance(message, Request | Notification):
        kind = "request" if isinstance(message, Request) else "notification"
        params = None if message.params is None else json.loads(message.params)
        return (kind, getattr(message, "id", None), message.method, params)
    if message.result is not None:
        return ("result", message.id, json.loads(bytes(message.result)))
    return ("error", message.id, json.loads(message.error or b""))


@settings(max_examples=150, deadline=None)
@given(envelopes())
def test_accepted_is_exactly_what_the_reference_calls_one_message(
    case: tuple[bytes, list[tuple[str, str]]],
) -> None:
    frame, members = case
    expected = reference(members)
    if expected is None:
        with pytest.raises(MalformedFrame):
            parse(frame)
    else:
        assert meaning(parse(frame)) == expected


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
def test_no_bytes_lead_to_another_error_than_a_refusal(data: bytes) -> None:
    for frame in (data, b'{"jsonrpc":"2.0","id":1,"result":' + data + b"}"):
        with contextlib.suppress(MalformedFrame):
            parse(frame, mend_surrogates=True)


@settings(max_examples=200, deadline=None)
@given(
    st.text(max_size=3).map(str.encode) | st.binary(max_size=5),
    st.integers(-5, 5),
    st.sampled_from(["x", "\u00e9", "\u65e5", "\U0001f600"]),
)
def test_utf_8_is_told_from_other_bytes_wherever_they_stand(
    part: bytes, off: int, filler: str
) -> None:
    # The bytes are looked at in pieces: the part stands around the end of the first one.
    text = filler.encode() * (PIECE // len(filler.encode()) - 2)
    data = b"x" * (PIECE - len(text) - off) + text + part + text
    try:
        data.decode()
    except UnicodeDecodeError:
        assert not is_utf8(data)
    else:
        assert is_utf8(data)


@settings(max_examples=100, deadline=None)
@given(envelopes())
def test_what_is_given_on_has_no_line_break(case: tuple[bytes, object]) -> None:
    try:
        message = parse(case[0])
    except MalformedFrame:
        return
    if isinstance(message, Response):
        parts = [bytes(message.result or b""), message.error or b""]
    else:
        parts = [message.params or b""]
    assert not any(b"\n" in part or b"\r" in part for part in parts)


def test_line_breaks_between_tokens_become_blanks_and_the_value_stays() -> None:
    hidden = b'{"jsonrpc":"2.0","id":1,\r\n"result":{"a":\n1,"b":"x\\n\xe2\x80\xa8y"}\n}'
    message = parse(hidden)
    assert isinstance(message, Response)
    assert message.result is not None
    assert bytes(message.result) == b'{"a": 1,"b":"x\\n\xe2\x80\xa8y"}'


def test_a_result_without_line_breaks_is_a_view_of_the_very_bytes() -> None:
    result = b'{"a" : 1.50, "a":"\\u0041", "big":123456789012345678901234567890}'
    message = parse(b'{"jsonrpc":"2.0","id":1,"result":' + result + b"}")
    assert isinstance(message, Response)
    assert message.result is not None
    assert bytes(message.result) == result


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b" ",
        b"null",
        b'"text"',
        b"[]",
        b'[{"jsonrpc":"2.0","method":"ping","id":1}]',
        b'\xef\xbb\xbf{"jsonrpc":"2.0","method":"ping","id":1}',
        b'{"jsonrpc":"2.0","method":"ping","id":1}{"jsonrpc":"2.0","method":"ping","id":2}',
        b'{"jsonrpc":"2.0","method":"ping","id":1}\x00',
        b'{"jsonrpc":"2.0","method":"ping","id":1e2}',
        b'{"jsonrpc":"2.0","method":"ping","id":NaN}',
        b'{"jsonrpc":"2.0","method":"pi\xffng","id":1}',
        b'{"jsonrpc":"2.0","method":"pi\xed\xa0\x80ng","id":1}',
        b'{"jsonrpc":"2.0","method":"pi\xc0\xafng","id":1}',
        b'{"jsonrpc":"2.0","method":"pi\\ud800ng","id":1}',
        b'{"jsonrpc":"2.0","method":"ping","id":"' + b"x" * 257 + b'"}',
        b'{"jsonrpc":"2.0","method":"ping","id":1,"extra":1}',
        b'{"jsonrpc":"2.0","id":1,"result":01}',
        b'{"jsonrpc":"2.0","id":1,"result":1,"result":1}',
        b'{"jsonrpc":"2.0","id":1,"result":[1],"result":[1]}',
        b'{"jsonrpc":"2.0","id":1,"id":1,"result":1}',
        b'{"jsonrpc":"2.0","id":1,"id":12,"result":1}',
        b'{"jsonrpc":"2.0","id":12,"id":1,"result":1}',
        b'{"jsonrpc":"2.0","id":"a","id":1,"result":1}',
        b'{"jsonrpc":"2.0","id":1,"result":1,"error":{}}',
        b'{"jsonrpc":"2.0","id":1,"result":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"jsonrpc":"2.0","method":"ping","id":1,"params":[]}',
    ],
)
def test_refused(frame: bytes) -> None:
    with pytest.raises(MalformedFrame):
        parse(frame)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["\\ud83d", "\\ude00", "\\uD83D\\uDE00", "\\\\ud83d", "\\n", "\\u0041", "x", "é", '\\"']
        ),
        max_size=8,
    )
)
def test_lone_surrogates_are_mended_and_nothing_else_changes(parts: list[str]) -> None:
    text = '"' + "".join(parts) + '"'
    frame = f'{{"jsonrpc":"2.0","id":1,"result":{{{text}:{text}}}}}'.encode()
    mended = parse(frame, mend_surrogates=True)
    assert isinstance(mended, Response)
    assert mended.result is not None
    expected = re.sub("[\ud800-\udfff]", "\ufffd", json.loads(text))
    assert json.loads(bytes(mended.result)) == {expected: expected}
    if "\ufffd" in expected:
        with pytest.raises(MalformedFrame):
            parse(frame)


def test_a_refusal_names_the_id_only_where_it_is_sure() -> None:
    with pytest.raises(MalformedFrame) as refused:
        parse(b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":[1]}')
    assert refused.value.request_id == 7
    with pytest.raises(MalformedFrame) as refused:
        parse(b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{},"params":{}}')
    assert refused.value.request_id is None


class TestBatch:
    def test_members_are_split_as_they_are(self) -> None:
        assert split_batch(b' [ {"a":1} , [2],3 ] ') == [b'{"a":1}', b"[2]", b"3"]
        assert split_batch(b'{"a":[1]}') is None
        assert split_batch(b"") is None

    @pytest.mark.parametrize(
        "frame",
        [b"[]", b"[1", b"[1,]", b"[" + b",".join([b"1"] * (MAX_BATCH + 1)) + b"]", b"[" * 5000],
    )
    def test_empty_broken_and_long_ones_are_refused(self, frame: bytes) -> None:
        with pytest.raises(MalformedFrame):
            split_batch(frame)


def test_node_reads_every_accepted_frame_as_we_do() -> None:
    corpus = accepted_corpus()
    script = (
        "const out=[],lines=require('fs').readFileSync(0,'latin1').trim().split('\\n');"
        "for(const line of lines){"
        "const text=new TextDecoder('utf-8',{fatal:true,ignoreBOM:true})"
        ".decode(Buffer.from(line,'base64'));"
        "out.push(Buffer.from(JSON.stringify(JSON.parse(text))).toString('base64'))}"
        "console.log(out.join('\\n'))"
    )
    lines = b"\n".join(base64.b64encode(frame) for frame in corpus)
    done = subprocess.run(["node", "-e", script], input=lines, capture_output=True, check=True)
    read = [json.loads(base64.b64decode(line)) for line in done.stdout.split()]
    assert len(read) == len(corpus) > 200
    assert read == [json.loads(frame) for frame in corpus]


def accepted_corpus() -> list[bytes]:
    """Frames that `parse` takes, out of many made by cutting and doubling parts of good ones."""
    chance = random.Random(7)
    good = [
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{}}}',
        b'{"jsonrpc":"2.0","method":"notifications/x","params":{"k":[1,2.5,null,true]}}',
        b'{"jsonrpc":"2.0","id":"s","result":{"content":["\\u00e9 \xc3\xa9 \xe2\x80\xa8"]}}',
        b'{"jsonrpc":"2.0","id":2,"error":{"code":-1,"message":"m"}}',
    ]
    pieces = [b" ", b"\t", b",", b'"', b"\\", b"{", b"}", b"[", b"]", b"0", b"-", b"e1", b"\xc3"]
    corpus = list(good)
    for _ in range(6000):
        frame = bytearray(chance.choice(good))
        for _ in range(chance.randint(1, 3)):
            where = chance.randrange(len(frame))
            if chance.random() < 0.5:
                frame[where : where + chance.randint(0, 2)] = chance.choice(pieces)
            else:
                start = chance.randrange(len(frame))
                frame[where:where] = frame[start : start + chance.randint(1, 20)]
        try:
            parse(bytes(frame))
        except MalformedFrame:
            continue
        corpus.append(bytes(frame))
    return corpus


class TestWriting:
    @settings(max_examples=100, deadline=None)
    @given(st.integers() | st.text(max_size=200), SMALL)
    def test_what_is_written_is_read_back(self, identifier: int | str, value: object) -> None:
        encoded = json.dumps(value).encode()
        read = parse(frames.result(identifier, encoded))
        assert isinstance(read, Response)
        assert read.id == identifier
        assert bytes(read.result or b"") == encoded
        failed = parse(frames.error(identifier, 403, "no", value))
        assert isinstance(failed, Response)
        more = {} if value is None else {"data": value}
        assert json.loads(failed.error or b"") == {"code": 403, "message": "no", **more}

    @given(st.text())
    def test_a_method_cannot_break_out_of_its_string(self, method: str) -> None:
        assert parse(frames.request(0, method, b"{}")) == Request(0, method, b"{}")
        assert parse(frames.notification(method, None)) == Notification(method, None)


def test_twenty_megabytes_pass() -> None:
    result = b'{"content":[{"data":"' + b"QUJD" * (5 << 20) + b'"}]}'
    frame = b'{"jsonrpc":"2.0","id":1,"result":' + result + b"}"
    message = parse(frame)
    assert isinstance(message, Response)
    assert message.result == result
    assert parse(b'{"jsonrpc":"2.0","id":1,"method":"m","params":' + result + b"}") == Request(
        1, "m", result
    )
