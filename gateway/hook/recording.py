"""What the hook leaves in the audit log: the decisions that it acts on, and what it refused."""

from pathlib import Path
from typing import Literal

import msgspec

from gateway import __version__
from gateway.audit.arguments import summarise_arguments
from gateway.audit.errors import AuditUnavailable
from gateway.audit.keys import Digester
from gateway.audit.records import Decision, Event, HostCall, Scalar, new_call_id, timestamp
from gateway.audit.shared_journal import SharedJournal
from gateway.config.directories import audit_directory
from gateway.config.settings import Settings
from gateway.errors import UserError
from gateway.hook.message import Message
from gateway.policy.values import Action
from gateway.policy.values import Decision as Verdict


def record_decision(
    settings: Settings,
    message: Message,
    agent: str | None,
    action: Action,
    verdict: Verdict,
    snapshot: str,
) -> None:
    """Commit a decision, `snapshot` being the digest of what it was taken on.

    Raises AuditUnavailable.
    """
    directory = audit_directory(settings)
    name, tool, reason = action.name, verdict.tool_id, verdict.reason
    if verdict.effect != "allow":
        from gateway.audit.redacted import wording  # the client waits for the hook

        name, tool, reason = wording(action.upstream, name, tool, reason)
    journal = _open(directory, settings.audit.durability or "process")
    level = settings.audit.arguments_for.get(verdict.tool_id, settings.audit.arguments)
    encoded = msgspec.json.encode(message.arguments)
    host = message.host
    try:
        digester = Digester.open(directory)
    except UserError as error:
        raise AuditUnavailable(str(error)) from error
    journal.append(
        Decision(
            time=timestamp(),
            call=new_call_id(),
            session=host.session,
            transport="hook",
            agent=agent,
            identified="hook",
            host=HostCall(
                session=host.session,
                tool_use_id=host.tool_use_id,
                agent_type=host.agent_type,
                agent_id=host.agent_id,
            ),
            upstream=action.upstream or None,
            method=action.method,
            action=action.kind,
            tool=tool or None,
            name=name or None,
            arguments=summarise_arguments(level, message.arguments, encoded, digester),
            decision=verdict.effect,
            enforced=verdict.enforced,
            rule=verdict.rule,
            file=verdict.file or None,
            line=verdict.line or None,
            reason=reason,
            snapshot=snapshot,
        )
    )


def record_refusal(directory: Path, message: Message | None, reason: str) -> None:
    """Commit that a message was refused for what it is, not for who asked; raises AuditUnavailable.

    `message` is None where it could not be read.
    """
    from gateway.audit.redacted import without_secrets  # most messages are sound

    data: dict[str, Scalar] = {"reason": without_secrets(reason)}
    session = None
    if message is not None:
        host = message.host
        session = host.session
        data |= {
            "tool": without_secrets(message.tool),
            "tool_use_id": host.tool_use_id,
            "agent_type": host.agent_type,
            "agent_id": host.agent_id,
        }
    event = Event(time=timestamp(), event="hook.refused", session=session, data=data)
    _open(directory, "process").append(event)


def _open(directory: Path, durability: Literal["process", "power"]) -> SharedJournal:
    try:
        return SharedJournal.open(directory, durability=durability, version=__version__)
    except UserError as error:
        raise AuditUnavailable(str(error)) from error
