"""The answer to a refused call."""

from gateway.policy.values import Decision
from gateway.relay.call import Call
from gateway.wire import frames


def refusal(call: Call, verdict: Decision) -> tuple[int | None, bytes]:
    """The code and the frame that answer a refused call.

    A tool call gets words that the model can act on, as a result (no code). Anything else gets the
    very error that a server of its revision gives which has no such thing.
    """
    action, client_id = call.action, call.client_id
    if action.kind == "tool":
        where = f" ({verdict.file}:{verdict.line})" if verdict.file else ""
        result = frames.tool_error(
            f"Refused by the gateway: {verdict.reason}{where}.", modern=call.modern
        )
        return None, frames.result(client_id, result)
    if action.kind == "resource" and not action.upstream:
        code = frames.INVALID_PARAMS if call.modern else frames.RESOURCE_NOT_FOUND
        data = {"uri": action.name}
        return code, frames.error(client_id, code, "Resource not found", data)
    if action.kind == "prompt" and not action.upstream:
        text = f"Unknown prompt: {action.name}"
        return frames.INVALID_PARAMS, frames.error(client_id, frames.INVALID_PARAMS, text)
    if action.kind == "task":
        text = "Task not found"
        return frames.INVALID_PARAMS, frames.error(client_id, frames.INVALID_PARAMS, text)
    code = frames.METHOD_NOT_FOUND
    return code, frames.error(client_id, code, "Method not found")
