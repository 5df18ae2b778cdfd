"""The questions to people that are open in this gateway, and the answers that are remembered.

Each is recorded before anybody can answer it, and its answer before the call goes on.
"""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

import msgspec

from gateway.approvals.request import Answer, Request
from gateway.approvals.store import Odd, Store
from gateway.audit.errors import AuditUnavailable
from gateway.errors import UserError
from gateway.policy.approval import Approval, Bound, Known, Terms, Way, covers, minutes
from gateway.policy.rules import Rule
from gateway.relay.parking import Parking
from gateway.relay.recording import Recorder, Scalars

_LOOK_EVERY_S = 0.2
"""How soon an answer that another process wrote is seen."""
_RELEASED_S = 120.0
"""How long a call may take from the answer until it is decided again; then it is refused."""
_SESSION_S = 24 * 3600.0
"""How long a session is at most, for an answer that holds for one."""
_REMEMBERED = 1000

Listener = Callable[[Approval | AuditUnavailable], None]
"""Takes what became of a question, or why that could not be recorded."""


class Pending:
    """One question to a person, until it is answered or over.

    `told` are the words that are recorded. `listener` waits for the outcome; it is None while its
    stateless client is between two requests. `unask` takes the question back from the client.
    """

    def __init__(self, request: Request, bound: Bound, told: str, listener: Listener) -> None:
        self.request = request
        self.bound = bound
        self.told = told
        self.listener: Listener | None = listener
        self.unask: Callable[[], None] | None = None
        self.outcome: Approval | None = None
        self.over = False
        self.stored = ""
        self.timer: asyncio.TimerHandle | None = None

    @property
    def others(self) -> bool:
        """Whether it can be answered in another way than by the client."""
        return bool(self.stored)


class Approvals:
    """What all sessions of one gateway ask people. `open_store` is asked on first need."""

    def __init__(self, recorder: Recorder, open_store: Callable[[], Store]) -> None:
        self.parking: Parking[Pending] = Parking()
        self._recorder = recorder
        self._open_store = open_store
        self._store: Store | None = None
        self._pending: dict[str, Pending] = {}
        self._remembered = Remembered()
        self._looking: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """How many questions wait for a person."""
        return len(self._pending)

    def full(self, terms: Terms) -> bool:
        """Whether as many calls wait as may."""
        return len(self._pending) >= terms.max_held

    @property
    def reachable(self) -> str:
        """Why nobody can answer by a command or on the console; "" where they can."""
        if self._store is None:
            try:
                self._store = self._open_store()
            except UserError as error:
                return str(error)
        return ""

    def recall(
        self, bound: Bound, asking: Sequence[Rule], terms: Terms, session: str
    ) -> Approval | None:
        """An earlier answer that holds for this very call too."""
        return self._remembered.recall(bound, asking, terms, session, datetime.now(UTC))

    def begin(
        self,
        request: Request,
        bound: Bound,
        told: str,
        listener: Listener,
        opened: Callable[[], None],
    ) -> Pending:
        """Ask: `opened` is called once it is recorded, to ask through the client as well.

        `told` are the words that are recorded.
        """
        pending = Pending(request, bound, told, listener)
        self._pending[request.id] = pending
        rules = ", ".join(f"{rule.name} ({rule.file}:{rule.line})" for rule in request.rules)
        data: Scalars = {
            "approval": request.id,
            "call": request.call,
            "tool": request.tool,
            "arguments": bound.arguments,
            "rules": rules,
            "ways": ", ".join(request.ways),
            "timeout_s": round(request.expires_s - request.asked_s),
            "text": told,
        }
        self._record("approval.requested", pending, data, partial(self._opened, pending, opened))
        return pending

    def answer_by_client(
        self, pending: Pending, *, approved: bool, by: str, remember: str = "call"
    ) -> None:
        """The client says what a person said."""
        if pending.over:
            return
        store = self._store
        if pending.stored and store is not None:
            reason = "it was answered through the client"
            if not store.close(pending.request.id, pending.stored, reason):
                self._look_at(pending, store)
                return
        answer = Answer(
            id=pending.request.id,
            request=pending.stored,
            said="approved" if approved else "denied",
            by=by,
            way="client",
            known="client-asserted",
            remember=remember,
            time_s=time.time(),
        )
        pending.unask = None
        self._answered(pending, answer)

    def withdraw(self, pending: Pending, reason: str, *, refusal: str) -> None:
        """Nobody needs the answer any more; `refusal` is what the call is refused for."""
        if pending.over:
            return
        store = self._store
        if pending.stored and store is not None:
            store.close(pending.request.id, pending.stored, reason)
        self._end(pending)
        data: Scalars = {**_named(pending), "reason": reason}
        self._record("approval.withdrawn", pending, data, None)
        self._settle(pending, _refused(pending, refusal), None)

    def forget(self, session: str) -> None:
        """A session is over: so is what was remembered for it."""
        self._remembered.forget(session)

    def close(self) -> None:
        """The gateway ends."""
        for pending in tuple(self._pending.values()):
            self.withdraw(pending, "the gateway ended", refusal="the gateway ended")
        self.parking.close()
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None

    # Until there is an answer

    def _opened(
        self, pending: Pending, opened: Callable[[], None], unavailable: AuditUnavailable | None
    ) -> None:
        if pending.over:
            return
        if unavailable is not None:
            self._end(pending)
            self._settle(pending, _refused(pending, "it could not be recorded"), unavailable)
            return
        request, store = pending.request, self._store
        if store is not None and any(way != "client" for way in request.ways):
            try:
                pending.stored = store.put(request)
            except (OSError, ValueError):
                pending.stored = ""
            self._keep_looking()
        if not pending.stored and "client" not in request.ways:
            self.withdraw(
                pending,
                "it cannot be put where people would find it",
                refusal="nobody could be asked: the state directory cannot be written",
            )
            return
        wait_s = request.expires_s - time.time()
        loop = asyncio.get_running_loop()
        pending.timer = loop.call_later(max(wait_s, 0.0), self._expire, pending)
        opened()

    def _keep_looking(self) -> None:
        if self._looking is None and any(each.stored for each in self._pending.values()):
            loop = asyncio.get_running_loop()
            self._looking = loop.call_later(_LOOK_EVERY_S, self._look)

    def _look(self) -> None:
        """See what other processes have answered."""
        self._looking = None
        for pending in tuple(self._pending.values()):
            if pending.stored and self._store is not None:
                self._look_at(pending, self._store)
        self._keep_looking()

    def _look_at(self, pending: Pending, store: Store) -> None:
        if pending.over:
            return
        request = pending.request
        try:
            answer = store.look(request.id, pending.stored)
            if answer is not None and (
                answer.way not in request.ways
                or answer.way == "client"
                or answer.known != "authenticated"
                or answer.remember not in request.remember
            ):
                raise Odd("the answer is none that was offered")
        except Odd as odd:
            self.withdraw(pending, str(odd), refusal=f"what was answered does not count: {odd}")
            return
        if answer is not None:
            self._answered(pending, answer)

    def _expire(self, pending: Pending) -> None:
        if pending.over:
            return
        store, request = self._store, pending.request
        waited_s = round(request.expires_s - request.asked_s)
        reason = f"nobody answered within {waited_s} s"
        if (
            pending.stored
            and store is not None
            and not store.close(request.id, pending.stored, reason)
        ):
            self._look_at(pending, store)
            return
        self._end(pending)
        self._record(
            "approval.expired",
            pending,
            {**_named(pending), "after_s": waited_s},
            partial(self._settle, pending, _refused(pending, reason)),
        )

    # The end of it

    def _answered(self, pending: Pending, answer: Answer) -> None:
        self._end(pending)
        now = datetime.now(UTC)
        approved = answer.said == "approved"
        data: Scalars = {
            **_named(pending),
            "answer": answer.said,
            "by": answer.by,
            "known": answer.known,
            "way": answer.way,
            "text": pending.told,
        }
        until = now + timedelta(seconds=_RELEASED_S)
        refusal = "" if approved else "a person was asked and denied it"
        way: Way = answer.way or "command"
        known: Known = answer.known
        outcome = Approval(
            id=answer.id, bound=pending.bound, way=way, known=known, until=until, refusal=refusal
        )
        if approved and answer.remember != "call":
            wanted = minutes(answer.remember)
            held_s = _SESSION_S if wanted is None else wanted * 60.0
            until = now + timedelta(seconds=held_s)
            data["remember"] = answer.remember
            data["until"] = until.isoformat(timespec="seconds")
            self._remembered_when_recorded(pending, outcome, until, wanted is None, data)
            return
        self._record("approval.answered", pending, data, partial(self._settle, pending, outcome))

    def _remembered_when_recorded(
        self, pending: Pending, outcome: Approval, until: datetime, session: bool, data: Scalars
    ) -> None:
        kept = msgspec.structs.replace(outcome, until=until)

        def recorded(unavailable: AuditUnavailable | None) -> None:
            if unavailable is None:
                self._remembered.keep(kept, pending.request.session if session else "")
            self._settle(pending, outcome, unavailable)

        self._record("approval.answered", pending, data, recorded)

    def _end(self, pending: Pending) -> None:
        """From here on no answer counts."""
        pending.over = True
        self._pending.pop(pending.request.id, None)
        if pending.timer is not None:
            pending.timer.cancel()
        if pending.stored and self._store is not None:
            self._store.remove(pending.request.id)
        if pending.unask is not None:
            unask, pending.unask = pending.unask, None
            unask()

    def _settle(
        self, pending: Pending, outcome: Approval, unavailable: AuditUnavailable | None
    ) -> None:
        if unavailable is not None:
            outcome = _refused(pending, "the answer could not be recorded")
        pending.outcome = outcome
        listener, pending.listener = pending.listener, None
        if listener is not None:
            listener(outcome if unavailable is None else unavailable)

    def _record(
        self,
        event: str,
        pending: Pending,
        data: Scalars,
        then: Callable[[AuditUnavailable | None], None] | None,
    ) -> None:
        request = pending.request
        self._recorder.event(
            event,
            data,
            session=request.session,
            agent=request.agent,
            upstream=pending.bound.upstream,
            then=then,
        )


class Remembered:
    """Answers that hold for longer than one call, in this process only."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[Approval, str]] = {}

    def keep(self, approval: Approval, session: str) -> None:
        """Remember an approval, for one session or, where that is "", for all."""
        while len(self._kept) >= _REMEMBERED:
            del self._kept[next(iter(self._kept))]
        self._kept[approval.id] = (approval, session)

    def recall(
        self, bound: Bound, asking: Sequence[Rule], terms: Terms, session: str, now: datetime
    ) -> Approval | None:
        """An approval that covers this very call."""
        for identifier, (approval, whose) in tuple(self._kept.items()):
            if approval.until is None or now > approval.until:
                del self._kept[identifier]
            elif whose in ("", session) and covers(approval, bound, asking, terms, now):
                return approval
        return None

    def forget(self, session: str) -> None:
        """What was remembered for this session is gone."""
        for identifier, (_, whose) in tuple(self._kept.items()):
            if whose == session:
                del self._kept[identifier]


def new_approval_id() -> str:
    """64 random bits; not a secret."""
    return os.urandom(8).hex()


def _refused(pending: Pending, reason: str) -> Approval:
    return Approval(id=pending.request.id, bound=pending.bound, refusal=reason)


def _named(pending: Pending) -> Scalars:
    return {
        "approval": pending.request.id,
        "call": pending.request.call,
        "tool": pending.request.tool,
    }
