import json
import re
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit.notes import Checkpoint, Signer, signed_note
from gateway.audit.records import (
    TEXT_CHARS,
    CallIds,
    ClientInfo,
    Decision,
    Event,
    Head,
    HostCall,
    Outcome,
    Pruned,
    Record,
    capped,
    encode_record,
    new_call_id,
    stamped,
    timestamp,
)
from tests.audit.samples import decision, outcome

hostile = st.text(
    st.one_of(
        st.sampled_from(
            '\x00\x07\b\t\n\f\r\x1b\x1f"\\/\x7f\x80\x9b\u2028\u202e\ufeff\U0001f600\udcff'
        ),
        st.characters(),
        st.characters(categories=["Cs"]),
    ),
    max_size=40,
)
shapes = st.recursive(
    st.fixed_dictionaries({"key": hostile, "type": st.just("string")}),
    lambda inner: st.fixed_dictionaries({"key": hostile, "members": st.lists(inner, max_size=3)}),
    max_leaves=5,
)
integers = st.integers(-(2**53) + 1, 2**53 - 1)
data_keys = st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), max_size=12)
SIGNER = Signer.generate("n" * 128)
names = st.text("abcXYZ0189-.", min_size=1, max_size=12)
digests = st.binary(min_size=32, max_size=32).map(bytes.hex)
records: st.SearchStrategy[Record] = st.one_of(
    st.builds(
        decision,
        session=hostile,
        agent=st.none() | hostile,
        name=st.none() | hostile,
        reason=st.none() | hostile,
        file=st.none() | hostile,
        line=st.none() | st.integers(1, 2**31),
        client=st.none() | st.builds(ClientInfo, name=hostile, version=st.none() | hostile),
        host=st.none()
        | st.builds(
            HostCall,
            session=hostile,
            tool_use_id=hostile,
            agent_type=st.none() | hostile,
            agent_id=st.none() | hostile,
        ),
        enforced=st.booleans(),
        arguments=st.none() | st.fixed_dictionaries({"shape": shapes, "size_bytes": integers}),
    ),
    st.builds(
        outcome,
        hostile,
        error_code=st.none() | st.integers(),
        duration_us=integers,
        changes=st.none() | st.dictionaries(st.sampled_from(("marked", "withheld")), integers),
    ),
    st.builds(
        Event,
        time=st.builds(timestamp),
        event=hostile,
        data=st.none()
        | st.dictionaries(data_keys, st.none() | st.booleans() | st.integers() | hostile),
        heads=st.none()
        | st.lists(
            st.builds(Head, writer=names, seq=integers, digest=digests, size_bytes=integers)
        ).map(tuple),
        pruned=st.none()
        | st.builds(
            Pruned,
            writer=names,
            segment=names,
            first_seq=integers,
            last_seq=integers,
            prev=digests,
            digest=digests,
            size_bytes=integers,
            tree=st.lists(digests).map(tuple),
        ),
    ),
)


@given(records)
def test_a_line_is_the_rfc_8785_form_of_its_values(record: Record) -> None:
    line = encode_record(stamped(record, writer="w", seq=1, prev="0" * 64))
    assert b"\n" not in line
    assert rfc8785.dumps(json.loads(line)) == line


@given(st.integers(0, 2**53 - 1), st.binary(min_size=32, max_size=32))
def test_the_note_of_a_checkpoint_is_in_its_record_as_it_was_signed(size: int, root: bytes) -> None:
    longest = "n" * 128
    note = signed_note(Checkpoint(f"{longest}/{longest}", size, root).text(), [SIGNER])
    event = Event(time=timestamp(), event="checkpoint", data={"note": note, "size": 1})
    line = encode_record(stamped(event, writer="w", seq=1, prev="0" * 64))
    assert rfc8785.dumps(json.loads(line)) == line
    assert json.loads(line)["data"]["note"] == note


@given(records)
def test_a_line_can_be_read_back_as_the_record(record: Record) -> None:
    line = encode_record(record)
    assert encode_record(msgspec.json.decode(line, type=Decision | Outcome | Event)) == line


@given(hostile, st.integers(1, 400))
def test_no_text_in_a_line_exceeds_its_limit_by_more_than_the_mark(text: str, times: int) -> None:
    long = text * times
    record = decision(
        **dict.fromkeys(
            ("session", "agent", "upstream", "method", "name", "reason", "rule", "file", "trace"),
            long,
        ),
        client=ClientInfo(name=long, version=long),
        host=HostCall(session=long, tool_use_id=long, agent_type=long, agent_id=long),
    )
    fields = json.loads(encode_record(record))
    client, host = fields.pop("client"), fields.pop("host")
    for value in (*fields.values(), *client.values(), *host.values()):
        assert not isinstance(value, str) or len(value) <= TEXT_CHARS + 120


def test_every_text_field_of_a_record_is_capped() -> None:
    # Those that the gateway itself makes in full need no cap.
    own = {"time", "writer", "prev", "transport", "identified", "decision", "status"}
    for kind in (Decision, Outcome, Event):
        values: dict[str, Any] = {}
        for field in msgspec.structs.fields(kind):
            if field.type in (str, str | None) or field.name in own:
                values[field.name] = "x" * (TEXT_CHARS + 1)
            elif field.required:
                values[field.name] = 0
        line = json.loads(encode_record(kind(**values)))
        for name in values.keys() - own:
            if isinstance(values[name], str):
                assert "SHA-256" in line[name], name


def test_a_capped_text_keeps_its_beginning_its_length_and_a_digest_of_it_all() -> None:
    assert capped("x" * TEXT_CHARS) == "x" * TEXT_CHARS
    long = capped("x" * TEXT_CHARS + "y")
    assert long.startswith("x" * TEXT_CHARS + "... [1025 characters, SHA-256 ")
    assert long != capped("x" * TEXT_CHARS + "z")


@pytest.mark.parametrize("field", ["session", "tool_use_id", "agent_type", "agent_id"])
def test_one_long_text_of_the_host_alone_is_capped(field: str) -> None:
    long = "x" * (TEXT_CHARS + 1)
    host = HostCall(**{"session": "s", "tool_use_id": "t", field: long})
    line = json.loads(encode_record(decision(host=host)))
    assert line["host"][field] == capped(long)


def test_a_line_of_many_short_texts_keeps_them_all() -> None:
    text = "x" * TEXT_CHARS
    record = decision(name=text, reason=text, client=ClientInfo(name=text, version=text))
    line = json.loads(encode_record(record))
    assert (line["name"], line["reason"]) == (text, text)
    assert line["client"] == {"name": text, "version": text}


def test_only_a_decision_that_was_merely_observed_says_whether_it_was_enforced() -> None:
    assert "enforced" not in json.loads(encode_record(decision()))
    assert json.loads(encode_record(decision(enforced=False)))["enforced"] is False


def test_what_the_json_output_promises_is_in_a_decision_also_when_there_is_none() -> None:
    line = json.loads(
        encode_record(decision(agent=None, tool=None, rule=None, reason=None, upstream=None))
    )
    for key in ("agent", "tool", "rule", "reason"):
        assert line[key] is None
    assert line.keys() >= {"time", "call", "decision"}
    assert "upstream" not in line
    assert "trace" not in line


@pytest.mark.parametrize("data", [{"size": 1.5}, {"inner": {}}, {"b\xfc": 1}, {"a\n": 1}])
def test_an_event_refuses_data_outside_the_subset(data: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        encode_record(Event(time=timestamp(), event="listing", data=data))


def test_an_upstreams_error_code_of_any_size_stays_a_safe_integer() -> None:
    line = json.loads(encode_record(outcome("c", error_code=-(10**40))))
    assert line["error_code"] == -(2**53) + 1


def test_times_have_one_width_and_order() -> None:
    times = [timestamp() for _ in range(100)]
    assert times == sorted(times)
    for text in times:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", text)


@pytest.mark.parametrize("make", [new_call_id, CallIds()])
def test_call_ids_are_uuids_of_version_7_that_sort_by_time(make: Callable[[], str]) -> None:
    ids = []
    for _ in range(200):
        ids.append(make())
        time.sleep(0.00001)
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)
    for call in ids:
        assert re.fullmatch(
            r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", call
        )
        assert abs(int(call.replace("-", "")[:12], 16) / 1000 - time.time()) < 60
