"""Which agent is calling, and how that is known; never from anything the caller writes itself."""

from typing import Literal

import msgspec

Means = Literal["token", "process", "hook", "url", "default", "none"]


class HostCall(msgspec.Struct, frozen=True):
    """What the hook of the client's host said of one tool call.

    `agent_type` None is the host's main thread; `agent_id` tells its running subagents apart.
    """

    session: str
    tool_use_id: str
    agent_type: str | None = None
    agent_id: str | None = None


class Identity(msgspec.Struct, frozen=True):
    """The agent of a call. `agent` None means that nothing trustworthy names one.

    With means "hook" and no agent it is that of a connection which many agents share: each call
    has an identity of its own, which carries the host's `host` data.
    """

    agent: str | None
    means: Means
    host: HostCall | None = None


SHARED = Identity(None, "hook")
"""A connection on which the host's hook tells the agents apart, call by call."""


def of_process(agent: str | None, default_agent: str | None) -> Identity:
    """The agent that the command line names, else the configured default, else none."""
    if agent is not None:
        return Identity(agent, "process")
    if default_agent is not None:
        return Identity(default_agent, "default")
    return Identity(None, "none")
