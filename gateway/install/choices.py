"""What a person chose for `gateway init`."""

import msgspec

from gateway.install.clients import Client

OBSERVE = "observe"


class Choices(msgspec.Struct, frozen=True, kw_only=True):
    """`clients`: only these, all where empty. `agent`: who calls where a client has no hook.

    `main_thread` and `builtin_agents`: the name of an agent, or observe.
    """

    clients: frozenset[Client] = frozenset()
    enforce: bool = False
    agent: str | None = None
    main_thread: str = OBSERVE
    builtin_agents: str = OBSERVE
