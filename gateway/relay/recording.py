"""Writes what sessions decide and see into the audit log."""

import asyncio
import time
from collections.abc import Callable, Mapping
from functools import partial

import msgspec

from gateway.audit.arguments import ArgumentsLevel, summarise_arguments
from gateway.audit.errors import AuditUnavailable
from gateway.audit.journal import Journal
from gateway.audit.keys import Digester
from gateway.audit.records import (
    CallIds,
    ClientInfo,
    Decision,
    Event,
    HostCall,
    Outcome,
    Record,
    Status,
    Timestamps,
    Transport,
)
from gateway.audit.redacted import without_secrets, wording
from gateway.identity.identity import HostCall as HostSaid
from gateway.identity.identity import Identity
from gateway.policy.results import Changes
from gateway.policy.values import Action
from gateway.policy.values import Decision as Verdict
from gateway.relay.answers import INLINE_BYTES, Answer, examined, examined_large
from gateway.relay.eras import error_code
from gateway.telemetry.watch import Begun, Ended, Watch
from gateway.wire.envelope import RequestId, Response
from gateway.wire.params import Params, encode
from gateway.wire.trace import trace_context

_AT_ONCE = 32
"""So many records are written at once where their calls go on later: the disk is at work while the
rest is decided. Else nothing would be won, and a call would go on while it is still handed over."""

Committed = Callable[[AuditUnavailable | None], None]
Scalars = dict[str, str | int | bool | None]


class Party(msgspec.Struct):
    """What a record says of the session; filled in as the handshake goes on."""

    session: str
    transport: Transport
    client: ClientInfo | None = None
    protocol: str | None = None


class Recorder:
    """The audit log as the sessions of one gateway use it.

    `arguments` is the level at which arguments are kept, `arguments_for` that of single tool ids;
    `snapshot` is the digest of what is decided on.
    """

    def __init__(
        self,
        journal: Journal,
        digester: Digester,
        *,
        arguments: ArgumentsLevel,
        arguments_for: Mapping[str, ArgumentsLevel],
        snapshot: str,
    ) -> None:
        self._journal = journal
        self._digester = digester
        self._arguments = arguments
        self._arguments_for = arguments_for
        self._snapshot = snapshot
        self._aside: set[asyncio.Task[None]] = set()
        self._now = Timestamps()
        self.new_call_id: Callable[[], str] = CallIds()
        self._waiting: list[tuple[Record, Committed | None]] = []
        self._answers: list[Answer] = []  # that were sent and are not examined yet
        self.watches: tuple[Watch, ...] = ()
        """Who else is told of everything that is recorded."""
        self.held: str | None = None
        """Why no call is recorded, and so none is served, though the journal can be written."""
        self._refused = 0
        self.store_problem: str | None = None
        """Why records are not copied to the shared store at the moment, though they will be."""

    @property
    def writable(self) -> bool:
        """Whether the log took the last record."""
        return self._journal.writable

    @property
    def digester(self) -> Digester:
        """Makes the keyed digests of this log."""
        return self._digester

    def event(
        self,
        event: str,
        data: Scalars | None = None,
        *,
        session: str | None = None,
        agent: str | None = None,
        upstream: str | None = None,
        then: Committed | None = None,
    ) -> None:
        """Record something other than a call; a failure shows in `writable` and stops calls.

        `then` is called once it is committed, or cannot be. Texts in `data` may come from
        upstreams and clients: they are kept without secrets.
        """
        if data:
            data = {
                key: without_secrets(value) if isinstance(value, str) else value
                for key, value in data.items()
            }
        record = Event(
            time=self._now(),
            event=event,
            session=session,
            agent=agent,
            upstream=upstream,
            data=data,
        )
        self._append(record, then)
        for watch in self.watches:
            watch.event(event, session, upstream)

    def argument_level(self, tool: str) -> ArgumentsLevel:
        """How much of the arguments of a tool is kept."""
        return self._arguments_for.get(tool, self._arguments)

    def decision(
        self,
        call: str,
        party: Party,
        identity: Identity,
        action: Action,
        verdict: Verdict,
        params: Params,
        then: Committed,
        *,
        snapshot: str | None = None,
        started_ns: int | None = None,
        request: RequestId | None = None,
    ) -> None:
        """Record a decision; `then` is called once it is committed, or cannot be.

        `snapshot` is the digest of what was decided on, where it is not that of the start.
        `started_ns` and `request`, the client's id, are for those who watch.
        """
        name, reason, tool, method = action.name, verdict.reason, verdict.tool_id, action.method
        if not verdict.definition or verdict.effect != "allow":
            # The words of the caller: a URI with a password in it, a value that a rule refuses.
            name, tool, reason = wording(action.upstream, name, tool, reason)
            method = without_secrets(method)
        summary = None
        if "arguments" in params:
            level = self.argument_level(verdict.tool_id)
            arguments = params["arguments"]
            summary = summarise_arguments(level, arguments, encode(arguments), self._digester)
        context = trace_context(params["_meta"]) if "_meta" in params else None
        trace = None if context is None else context.traceparent
        if self.watches:
            begun = Begun(
                call,
                time.monotonic_ns() if started_ns is None else started_ns,
                party.session,
                party.transport,
                party.protocol,
                identity.agent,
                action,
                verdict,
                params,
                request,
            )
            for watch in self.watches:
                trace = watch.decided(begun) or trace
            then = partial(self._committed, begun, then)
        record = Decision(
            time=self._now(),
            call=call,
            session=party.session,
            transport=party.transport,
            client=party.client,
            protocol=party.protocol,
            agent=identity.agent,
            identified=identity.means,
            upstream=action.upstream or None,
            method=method,
            action=action.kind,
            tool=tool or None,
            name=name or None,
            arguments=summary,
            decision=verdict.effect,
            rule=verdict.rule,
            file=verdict.file or None,
            line=verdict.line or None,
            reason=reason,
            enforced=verdict.enforced,
            snapshot=self._snapshot if snapshot is None else snapshot,
            definition=verdict.definition or None,
            host=None if identity.host is None else _host(identity.host),
            trace=trace,
            approval=verdict.approval or None,
        )
        self._append(record, then)

    def failed(
        self,
        call: str,
        started_ns: int,
        status: Status,
        code: int | None = None,
        changes: Changes | None = None,
    ) -> None:
        """Record that an allowed call got no answer, and why."""
        made, observed = _counted(changes)
        record = Outcome(
            time=self._now(),
            call=call,
            status=status,
            duration_us=_since_us(started_ns),
            error_code=code,
            changes=made,
            observed=observed,
        )
        self._ended(record)

    def done(self, call: str, started_ns: int) -> None:
        """Record that something was carried out that nobody answers."""
        duration_us = _since_us(started_ns)
        self._ended(Outcome(time=self._now(), call=call, status="ok", duration_us=duration_us))

    def answered(
        self,
        call: str,
        started_ns: int,
        response: Response,
        *,
        tool: bool,
        changes: Changes | None = None,
    ) -> None:
        """Record an answer: its size, its keyed digest, and whether it was an error.

        `changes` says what rules about results did to it.
        """
        duration_us = _since_us(started_ns)
        result = response.result
        if result is None:
            self.failed(call, started_ns, "error", error_code(response.error or b""), changes)
            return
        answer = Answer(call, duration_us, result, tool, changes)
        if result.nbytes <= INLINE_BYTES:
            self._answers.append(answer)
            if len(self._answers) == 1:
                asyncio.get_running_loop().call_soon(self.flush)
        else:
            work = self._examine_aside(answer)
            task = asyncio.get_running_loop().create_task(work)
            self._aside.add(task)
            task.add_done_callback(self._aside.discard)

    async def drain(self) -> None:
        """Wait until the outcomes of large results are written."""
        if self._aside:
            await asyncio.wait(self._aside)
        self.flush()

    def flush(self) -> None:
        """Write everything there is to record.

        What calls wait for first: answers have left by now, so theirs is done while the other side
        is at work, or the disk.
        """
        self._write()
        if self._answers:
            answers, self._answers = self._answers, []
            for answer in answers:
                self._answered(answer, *examined(answer, self._digester))
            self._write()

    def _write(self) -> None:
        """Write what this turn of the event loop has brought, by one write, and go on from there.

        A record of the past that cannot be written has nobody to hear of it: it shows in
        `writable`, is counted in the log when that works again, and the next call is refused.
        """
        waiting, self._waiting = self._waiting, []
        if self.held is not None:
            waiting = self._without_calls(waiting, self.held)
        if waiting:
            self._journal.append_all(waiting)

    def hold(self, reason: str | None) -> None:
        """Refuse every call from now on, and why; None: take them again.

        What belongs to calls under way is still recorded.
        """
        if reason is not None:
            self.event("store.spool_full", {"reason": reason})
        elif self.held is not None:
            self.event("store.spool_free", {"refused": self._refused})
        self.held, self._refused = reason, 0

    def _without_calls(
        self, waiting: list[tuple[Record, Committed | None]], reason: str
    ) -> list[tuple[Record, Committed | None]]:
        unavailable = AuditUnavailable(reason)
        for _, then in waiting:
            if then is not None:
                self._refused += 1
                then(unavailable)
        return [(record, then) for record, then in waiting if then is None]

    def _append(self, record: Record, then: Committed | None) -> None:
        self._waiting.append((record, then))
        if len(self._waiting) >= _AT_ONCE and self._journal.continues_later and self.held is None:
            self._write()
        elif len(self._waiting) == 1:
            asyncio.get_running_loop().call_soon(self._write)

    async def _examine_aside(self, answer: Answer) -> None:
        digest, is_error = await asyncio.get_running_loop().run_in_executor(
            None, examined_large, answer, self._digester
        )
        self._answered(answer, digest, is_error)

    def _answered(self, answer: Answer, digest: str, is_error: bool) -> None:
        made, observed = _counted(answer.changes)
        record = Outcome(
            time=self._now(),
            call=answer.call,
            status="tool_error" if is_error else "ok",
            duration_us=answer.duration_us,
            result_size_bytes=answer.result.nbytes,
            result_digest=digest,
            changes=made,
            observed=observed,
        )
        self._ended(record, answer.result)

    def _ended(self, record: Outcome, result: memoryview | None = None) -> None:
        self._append(record, None)
        if self.watches:
            ended = Ended(record.call, record.status, record.duration_us, record.error_code, result)
            for watch in self.watches:
                watch.ended(ended)

    def _committed(
        self, begun: Begun, then: Committed, unavailable: AuditUnavailable | None
    ) -> None:
        """A decision is in the log; where it cannot be, the call ends here."""
        if unavailable is not None and not begun.decision.refuses:
            duration_us = _since_us(begun.started_ns)
            for watch in self.watches:
                watch.ended(Ended(begun.call, "unrecorded", duration_us))
        then(unavailable)


def _counted(changes: Changes | None) -> tuple[dict[str, int] | None, dict[str, int] | None]:
    if changes is None:
        return None, None
    return dict(changes.made) or None, dict(changes.observed) or None


def _host(call: HostSaid) -> HostCall:
    return HostCall(
        session=call.session,
        tool_use_id=call.tool_use_id,
        agent_type=call.agent_type,
        agent_id=call.agent_id,
    )


def _since_us(started_ns: int) -> int:
    return (time.monotonic_ns() - started_ns) // 1000


def client_info(value: object) -> ClientInfo | None:
    """What a client says of itself."""
    if not isinstance(value, Mapping):
        return None
    version = value.get("version")
    return ClientInfo(
        name=without_secrets(str(value.get("name"))),
        version=None if version is None else without_secrets(str(version)),
    )
