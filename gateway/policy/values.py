"""What is decided on and what comes out: actions, contexts and decisions."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec

from gateway.catalog.listing import UpstreamCatalog
from gateway.policy.approval import Approval
from gateway.policy.limits import Reservation
from gateway.policy.rules import Rule
from gateway.wire.methods import ActionKind

Effect = Literal["allow", "ask", "deny"]


class Action(msgspec.Struct, frozen=True, gc=False):
    """One thing somebody asks for.

    `upstream` is the upstream's configured name, "" where none can be told. `name` is the raw tool
    name, resource URI, prompt name or task id; of a native tool it is the host's name for it.
    `method` is the protocol's method, or the host's event.
    """

    kind: ActionKind
    method: str
    upstream: str
    name: str = ""


class Context(msgspec.Struct, frozen=True):
    """What a decision may see besides the snapshot.

    `catalog` is the upstream's complete listing, None while it has not been read. `owns_task`
    says whether the task that the action names was started by this agent on this session.
    `arguments` are those of a tool call, None where they are not known, `now` is an aware time, and
    `means` is how the caller is identified: what rules may ask about. `answers` are those of slow
    guards. `approval` is what a person was asked about this call and said; it is held against
    `digest`, that of the arguments.
    """

    catalog: UpstreamCatalog | None = None
    owns_task: bool = False
    protected: str = ""
    nobody: str = ""
    arguments: Mapping[str, object] | None = None
    now: datetime | None = None
    means: str = ""
    answers: Mapping[Any, str | None] = {}
    approval: Approval | None = None
    digest: str = ""


class Decision(msgspec.Struct, frozen=True, gc=False):
    """The outcome, with the rule that decided, where that stands, and a reason for the model.

    `hidden`: to the caller the thing does not exist, so it is answered as a missing one.
    `provisional`: allowed as far as the declared list goes, but the catalog was not known; such a
    decision must be taken again before anything is forwarded.
    """

    effect: Effect
    rule: str
    reason: str
    file: str = ""
    line: int = 0
    tool_id: str = ""
    definition: str = ""
    """Digest of the tool's definition that was judged."""
    hidden: bool = False
    provisional: bool = False
    enforced: bool = True
    """False where the decision is only observed: recorded as it would have been, not acted on."""
    reservations: tuple[Reservation, ...] = ()
    """What a call has to take before its decision is recorded; what fails makes it a refusal."""
    asking: tuple[Rule, ...] = ()
    """The rules that ask a person, all of them, where that is the decision."""
    approval: str = ""
    """The id of the approval that let it through, or that refused it."""

    @property
    def refuses(self) -> bool:
        """Whether the action must not happen."""
        return self.enforced and self.effect != "allow"

    @property
    def asks(self) -> bool:
        """Whether the action may happen once a person says yes."""
        return self.enforced and self.effect == "ask"

    @property
    def allows(self) -> bool:
        """Whether the action may go upstream now."""
        return not self.provisional and not self.refuses

    @property
    def reachable(self) -> bool:
        """Whether the action may go upstream now, or once a person says yes."""
        return self.allows or (self.asks and not self.provisional)
