"""The answer to a refused call."""

from collections.abc import Collection

from gateway.policy.values import Decision
from gateway.relay.call import Call
from gateway.wire import frames
from gateway.wire.methods import ActionKind


def refusal(
    call: Call, verdict: Decision, offered: Collection[ActionKind]
) -> tuple[int | None, bytes]:
    """The code and the frame that answer a refused call.

    A tool call gets words that the model can act on, as a result (no code). Anything else gets the
    very error that a server without such a thing gives, the same for every name: of a kind in
    `offered` only the name is missing, of any other the method.
    """
    action, client_id = call.action, call.client_id
    if action.kind == "tool":
        where = f" ({verdict.file}:{verdict.line})" if verdict.file else ""
        text = f"Refused by the gateway: {verdict.reason}{where}."
        return None, frames.result(client_id, frames.tool_error(text, modern=call.modern))
    if action.kind == "task":
        code, text, data = frames.INVALID_PARAMS, "Task not found", None
    elif action.kind == "resource" and "resource" in offered:
        code = frames.INVALID_PARAMS if call.modern else frames.RESOURCE_NOT_FOUND
        text, data = "Resource not found", {"uri": action.name}
    elif action.kind == "prompt" and "prompt" in offered:
        code, text, data = frames.INVALID_PARAMS, "Prompt not found", None
    else:
        code, text, data = frames.METHOD_NOT_FOUND, "Method not found", None
    return code, frames.error(client_id, code, text, data)
