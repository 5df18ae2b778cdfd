"""The process in which slow guards are judged, without the process."""

import io

import msgspec

from gateway.policy.guards.worker import Verdict, WorkerJob, packed, serve, unpacked


def _served(*jobs: WorkerJob) -> list[Verdict]:
    verdicts = io.BytesIO()
    serve(io.BytesIO(b"".join(map(packed, jobs))), verdicts, lambda: None)
    buffer = bytearray(verdicts.getvalue())
    return [msgspec.msgpack.decode(body, type=Verdict) for body in unpacked(buffer)]


def test_a_job_is_begun_and_ended() -> None:
    assert _served(
        WorkerJob(7, "size", '{"max_bytes": 3}', b'"abc"'),
        WorkerJob(8, "size", '{"max_bytes": 3}', b'"abcd"'),
    ) == [
        Verdict(7),
        Verdict(7, True, None),
        Verdict(8),
        Verdict(8, True, "The value is larger than the 3 allowed bytes."),
    ]


def test_what_cannot_be_judged_is_refused() -> None:
    verdicts = _served(
        WorkerJob(1, "nowhere", "{}", b'"a"'),
        WorkerJob(2, "size", '{"max": 3}', b'"a"'),
        WorkerJob(3, "size", '{"max_bytes": 3}', b"no JSON"),
    )
    assert [verdict.number for verdict in verdicts if verdict.ended] == [1, 2, 3]
    assert all(verdict.problem for verdict in verdicts if verdict.ended)


def test_messages_are_taken_out_of_a_buffer_when_complete() -> None:
    whole = packed(Verdict(1)) + packed(Verdict(2, True, "No."))
    buffer = bytearray()
    bodies = []
    for byte in whole:
        buffer.append(byte)
        bodies += unpacked(buffer)
    assert not buffer
    assert [msgspec.msgpack.decode(body, type=Verdict) for body in bodies] == [
        Verdict(1),
        Verdict(2, True, "No."),
    ]
