"""One message of the client's host: find the configuration, decide, record, register, answer.

A tool of an upstream behind the gateway is refused here where the gateway would refuse it, and is
otherwise registered for the gateway, which decides and records it. A native tool is decided here;
there is never a record of its outcome.

The client waits for this, so what only some messages need is imported where it is needed.
"""

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from gateway.audit.errors import AuditUnavailable
from gateway.audit.files import default_directory
from gateway.config.directories import audit_directory
from gateway.config.files import find, user_config
from gateway.config.load import Loaded, load
from gateway.errors import UserError
from gateway.hook.answer import NOTHING, refusal
from gateway.hook.message import EVENT, Malformed, Message, OtherEvent, read_message
from gateway.hook.names import PREFIX, SHELLS, WRITERS, readings_of
from gateway.policy.callers import agent_of
from gateway.policy.decide import decide
from gateway.policy.values import Action, Context, Decision

PROJECT_VARIABLE = "CLAUDE_PROJECT_DIR"


def respond(data: bytes, *, config: str | None, cwd: str, environ: Mapping[str, str]) -> bytes:
    """What to write to the host that has sent `data`; NOTHING leaves it to the host.

    `config` names the configuration; None finds it from the host's project, else from the
    directory that the message names. `cwd` is that of this process.
    """
    message, problem = _read(data)
    base = cwd if message is None else message.cwd
    project = environ.get(PROJECT_VARIABLE, "")
    if not project.startswith("/"):
        project = base
    start = Path(project if config is None else cwd)
    named = None if config is None else Path(config)
    try:
        place = find(named, cwd=start, environ=environ)
    except UserError:
        return NOTHING  # nothing is governed here
    ungoverned = place.config is None
    if ungoverned and user_config(environ).exists():
        named, ungoverned = user_config(environ), False
    try:
        loaded = load(named, cwd=start, trusted=False)
    except UserError as error:
        reason = f"the gateway's configuration cannot be used, so no tool can: {error}"
        return _refuse(default_directory(environ), message, reason)
    if message is None:
        answer = _refuse(
            audit_directory(loaded.settings), None, f"the host's message is refused: {problem}"
        )
        return NOTHING if isinstance(problem, OtherEvent) else answer
    call = _Call(loaded, message, (base, project), environ)
    return call.announced() if ungoverned else call.answer()


class _LeftToTheGateway(dict[object, str | None]):
    """Guards that take long are not asked here: the gateway asks them, and decides."""

    def __contains__(self, job: object) -> bool:
        return True

    def __missing__(self, job: object) -> None:
        return None


def _read(data: bytes) -> tuple[Message | None, Exception | None]:
    try:
        return read_message(data), None
    except (Malformed, OtherEvent) as error:
        return None, error


def _refuse(directory: Path, message: Message | None, reason: str) -> bytes:
    """A refusal of the message itself, which stands whether or not it can be recorded."""
    from gateway.hook.recording import record_refusal

    with suppress(AuditUnavailable):
        record_refusal(directory, message, reason)
    return refusal(reason)


class _Call:
    """A tool that is about to run, under a configuration. `places` are where the client works."""

    def __init__(
        self,
        loaded: Loaded,
        message: Message,
        places: tuple[str, ...],
        environ: Mapping[str, str],
    ) -> None:
        self._loaded = loaded
        self._message = message
        self._places = places
        self._environ = environ
        self._agent, self._nobody = agent_of(message.host.agent_type, loaded.snapshot)

    def announced(self) -> bytes:
        """The answer where no configuration says what holds for the client's own tools.

        A gateway may have been started without one all the same.
        """
        if readings_of(self._message.tool, self._loaded.snapshot.upstreams):
            return self._register()
        return NOTHING

    def answer(self) -> bytes:
        name = self._message.tool
        if not name.startswith(PREFIX):
            return self._govern_native()
        readings = readings_of(name, self._loaded.snapshot.upstreams)
        refused = self._govern_upstream(readings) if readings else self._govern_native()
        return refused or self._register()

    def _govern_upstream(self, readings: tuple[tuple[str, str], ...]) -> bytes:
        """Refuse what the gateway would refuse, whichever of its tools the name means."""
        snapshot = self._loaded.snapshot
        context = Context(
            nobody=self._nobody,
            arguments=self._message.arguments,
            now=datetime.now(UTC),
            means="hook",
            answers=_LeftToTheGateway(),
        )
        first = None
        for upstream, tool in readings:
            action = Action("tool", "tools/call", upstream, tool)
            verdict = decide(self._agent, action, snapshot, context)
            if not verdict.refuses or verdict.asks:  # the gateway asks, and holds the call
                return NOTHING
            first = first or (action, verdict)
        if first is None:
            return NOTHING
        action, verdict = first
        with suppress(AuditUnavailable):  # it is refused either way
            self._record(action, verdict)
        return refusal(verdict.reason)

    def _govern_native(self) -> bytes:
        snapshot = self._loaded.snapshot
        context = Context(protected=self._protected(), nobody=self._nobody)
        if snapshot.native_tools == "off" and not context.protected:
            return NOTHING
        action = Action("native", EVENT, "", self._message.tool)
        verdict = decide(self._agent, action, snapshot, context)
        try:
            self._record(action, verdict)
        except AuditUnavailable as error:
            if not verdict.refuses and snapshot.native_tools == "enforce" and not snapshot.observe:
                return refusal(f"nothing runs that cannot be recorded: {error}")
        if not verdict.refuses:
            return NOTHING
        return refusal(verdict.reason, "ask" if verdict.effect == "ask" else "deny")

    def _protected(self) -> str:
        message = self._message
        if message.tool not in WRITERS and message.tool not in SHELLS:
            return ""
        from gateway.hook.protected import granting_files, protected_by

        granting = granting_files(self._loaded, self._places, self._environ)
        return protected_by(message.tool, message.arguments, cwd=message.cwd, granting=granting)

    def _register(self) -> bytes:
        """Leave word of the call for the gateway that will get it."""
        from gateway.hook.registering import register

        problem = register(self._loaded.settings, self._message)
        if not problem:
            return NOTHING
        return _refuse(audit_directory(self._loaded.settings), self._message, problem)

    def _record(self, action: Action, verdict: Decision) -> None:
        from gateway.hook.recording import record_decision

        snapshot = self._loaded.snapshot.digest
        record_decision(
            self._loaded.settings, self._message, self._agent, action, verdict, snapshot
        )
