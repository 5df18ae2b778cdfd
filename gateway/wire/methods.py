"""The protocol's methods: what each is, and which party of which revision may send it.

A method that is not in these tables is unknown, and unknown is refused. A test compares the tables
with the `mcp` package's, so that a method added there cannot slip through unclassified.
"""

from typing import Literal

import msgspec

HANDSHAKE_REVISIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
"""Revisions that open a session with `initialize`, oldest first."""
LATEST_HANDSHAKE = HANDSHAKE_REVISIONS[-1]
BATCH_REVISIONS = frozenset(("2025-03-26",))
"""Revisions in which a JSON-RPC batch is legal."""

ActionKind = Literal[
    "session",
    "list",
    "tool",
    "resource",
    "prompt",
    "completion",
    "logging",
    "task",
    "sampling",
    "elicitation",
    "roots",
    "native",
    "unknown",
]


class Method(msgspec.Struct, frozen=True):
    """One method: the kind of action it is, and the first revision that has it."""

    kind: ActionKind
    since: str = "2024-11-05"
    target: str = ""
    """The member of params that names what is acted on ("name", "uri", ...)."""


CLIENT_REQUESTS: dict[str, Method] = {
    "initialize": Method("session"),
    "ping": Method("session"),
    "tools/list": Method("list"),
    "tools/call": Method("tool", target="name"),
    "resources/list": Method("resource"),
    "resources/templates/list": Method("resource"),
    "resources/read": Method("resource", target="uri"),
    "resources/subscribe": Method("resource", target="uri"),
    "resources/unsubscribe": Method("resource", target="uri"),
    "prompts/list": Method("prompt"),
    "prompts/get": Method("prompt", target="name"),
    "completion/complete": Method("completion"),
    "logging/setLevel": Method("logging"),
    "tasks/list": Method("task", since="2025-11-25"),
    "tasks/get": Method("task", since="2025-11-25", target="taskId"),
    "tasks/result": Method("task", since="2025-11-25", target="taskId"),
    "tasks/cancel": Method("task", since="2025-11-25", target="taskId"),
}

STATELESS_REQUESTS: dict[str, Method] = {
    "server/discover": Method("session"),
    "subscriptions/listen": Method("session"),
    "tools/list": Method("list"),
    "tools/call": Method("tool", target="name"),
    "resources/list": Method("resource"),
    "resources/templates/list": Method("resource"),
    "resources/read": Method("resource", target="uri"),
    "prompts/list": Method("prompt"),
    "prompts/get": Method("prompt", target="name"),
    "completion/complete": Method("completion"),
    "tasks/get": Method("task", target="taskId"),
    "tasks/update": Method("task", target="taskId"),
    "tasks/cancel": Method("task", target="taskId"),
}
"""The requests of the stateless revisions; the tasks are those of the official extension."""

CLIENT_NOTIFICATIONS: dict[str, Method] = {
    "notifications/initialized": Method("session"),
    "notifications/cancelled": Method("session"),
    "notifications/progress": Method("session"),
    "notifications/roots/list_changed": Method("roots"),
}

SERVER_REQUESTS: dict[str, Method] = {
    "ping": Method("session"),
    "sampling/createMessage": Method("sampling"),
    "elicitation/create": Method("elicitation", since="2025-06-18"),
    "roots/list": Method("roots"),
}

SERVER_NOTIFICATIONS: dict[str, Method] = {
    "notifications/cancelled": Method("session"),
    "notifications/progress": Method("session"),
    "notifications/message": Method("logging"),
    "notifications/resources/updated": Method("resource", target="uri"),
    "notifications/resources/list_changed": Method("resource"),
    "notifications/tools/list_changed": Method("list"),
    "notifications/prompts/list_changed": Method("prompt"),
    "notifications/elicitation/complete": Method("elicitation", since="2025-11-25"),
    "notifications/tasks/status": Method("task", since="2025-11-25", target="taskId"),
}
