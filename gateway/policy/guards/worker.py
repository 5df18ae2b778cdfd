"""The process in which slow guards are judged: jobs on stdin, verdicts on stdout.

Each message is four bytes of length, most significant first, and MessagePack. A job is
`[number, guard, options as JSON, value as JSON]`; it is answered by `[number]` when the guard is
built and what it needs is imported, then by `[number, sentence or null]`. `python -P -m` this.
"""

import gc
import logging
import sys
from collections.abc import Callable
from typing import IO

import msgspec

from gateway.policy.guards import Guard, build

_LENGTH_BYTES = 4
_MEMORY_BYTES = 1 << 30
_CPU_S = 5
_RECURSION = 6000
_KEPT_GUARDS = 256


class Verdict(msgspec.Struct, array_like=True, omit_defaults=True):
    """What the worker says: of job `number`, that it begins, or how it ended."""

    number: int
    ended: bool = False
    problem: str | None = None


class WorkerJob(msgspec.Struct, array_like=True):
    """What the worker is asked."""

    number: int
    guard: str
    options: str
    value: bytes


def packed(message: msgspec.Struct) -> bytes:
    """A message as it goes through the pipe."""
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


def unpacked(buffer: bytearray) -> list[bytes]:
    """The bodies of the messages that are complete; they are taken out of the buffer."""
    bodies: list[bytes] = []
    while len(buffer) >= _LENGTH_BYTES:
        end = _LENGTH_BYTES + int.from_bytes(buffer[:_LENGTH_BYTES], "big")
        if len(buffer) < end:
            break
        bodies.append(bytes(buffer[_LENGTH_BYTES:end]))
        del buffer[:end]
    return bodies


def serve(jobs: IO[bytes], verdicts: IO[bytes], limit_cpu: Callable[[], None]) -> None:
    """Answer jobs until there are no more. A guard that raises has not said yes.

    `limit_cpu` bounds the time of the process anew before each job.
    """
    guards: dict[tuple[str, str], Guard] = {}
    while len(head := jobs.read(_LENGTH_BYTES)) == _LENGTH_BYTES:
        body = jobs.read(int.from_bytes(head, "big"))
        job = msgspec.msgpack.decode(body, type=WorkerJob)
        verdict = Verdict(job.number, True, "The argument could not be examined.")
        try:
            guard = guards.get((job.guard, job.options))
            if guard is None:
                if len(guards) >= _KEPT_GUARDS:
                    guards.clear()
                guard = build(job.guard, msgspec.json.decode(job.options))
                guard.prepare()
                guards[job.guard, job.options] = guard
                gc.freeze()
            _tell(verdicts, Verdict(job.number))
            limit_cpu()
            verdict.problem = guard.check(msgspec.json.decode(job.value))
        except Exception:  # noqa: BLE001, S110 - refused; the text may hold what was asked
            pass
        _tell(verdicts, verdict)


def _tell(verdicts: IO[bytes], verdict: Verdict) -> None:
    verdicts.write(packed(verdict))
    verdicts.flush()


def _limit_cpu() -> None:
    """A few seconds more than were used, in case nobody is left to end us."""
    if sys.platform != "win32":
        import resource

        usage = resource.getrusage(resource.RUSAGE_SELF)
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        soft = int(usage.ru_utime + usage.ru_stime) + _CPU_S
        resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def _limit_memory() -> None:
    if sys.platform != "win32":
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        limit = _MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(hard, _MEMORY_BYTES)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


if __name__ == "__main__":
    _limit_memory()
    # Statements are nested within bounds that guards check; frames of Python are cheap.
    sys.setrecursionlimit(_RECURSION)
    logging.disable()  # parsers warn, and quote what they parse
    serve(sys.stdin.buffer, sys.stdout.buffer, _limit_cpu)
