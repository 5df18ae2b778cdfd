"""Which agent is calling, and how that is known; never from anything the caller writes itself."""

from typing import Literal

import msgspec

Means = Literal["token", "process", "hook", "default", "none"]


class Identity(msgspec.Struct, frozen=True):
    """The agent of a call. `agent` None means that nothing trustworthy names one."""

    agent: str | None
    means: Means


def of_process(agent: str | None, default_agent: str | None) -> Identity:
    """The agent that the command line names, else the configured default, else none."""
    if agent is not None:
        return Identity(agent, "process")
    if default_agent is not None:
        return Identity(default_agent, "default")
    return Identity(None, "none")
