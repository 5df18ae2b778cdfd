"""Fixture tools of 2026-07-28 that answer `input_required` until they have what they need."""

from collections.abc import Callable, Mapping
from typing import Any

import mcp_types as types

from tests.conformance.fixture_content import INPUT_PROMPT, prompt_about

Answers = Mapping[str, Any]
"""Input responses by the key of their request, as plain JSON values."""
Rounds = types.CallToolResult | types.InputRequiredResult
Step = Callable[[Answers, str | None, types.ClientCapabilities], Rounds]

_PREFIX = "test_input_required_result_"


def rounds_result(
    params: types.CallToolRequestParams, declared: types.ClientCapabilities | None
) -> Rounds | None:
    """The answer of one round of such a tool; None for any other tool."""
    step = STEPS.get(params.name)
    if step is None:
        return None
    capabilities = declared or types.ClientCapabilities()
    return step(_plain(params.input_responses), params.request_state, capabilities)


def prompt_rounds(
    params: types.GetPromptRequestParams,
) -> types.GetPromptResult | types.InputRequiredResult | None:
    """The answer of one round of the prompt that asks for its context; None for other prompts."""
    if params.name != INPUT_PROMPT:
        return None
    context = _content(_plain(params.input_responses), "user_context", "context")
    if context is None:
        return types.InputRequiredResult(
            input_requests={
                "user_context": _form("What context should the prompt use?", "context", "string")
            }
        )
    return prompt_about(str(context))


def _elicitation(answers: Answers, _: str | None, __: types.ClientCapabilities) -> Rounds:
    name = _content(answers, "user_name", "name")
    if name is None:
        return _ask({"user_name": _form("What is your name?", "name", "string")})
    return _done(f"Hello, {name}!")


def _sampling(answers: Answers, _: str | None, __: types.ClientCapabilities) -> Rounds:
    answer = answers.get("capital_question")
    if answer is None:
        return _ask({"capital_question": _sample("What is the capital of France?", 100)})
    return _done(str(answer["content"]["text"]))


def _list_roots(answers: Answers, _: str | None, __: types.ClientCapabilities) -> Rounds:
    answer = answers.get("client_roots")
    if answer is None:
        return _ask({"client_roots": types.ListRootsRequest()})
    return _done("Roots: " + ", ".join(root["uri"] for root in answer["roots"]))


def _request_state(answers: Answers, state: str | None, _: types.ClientCapabilities) -> Rounds:
    confirmed = _content(answers, "confirm", "ok")
    if confirmed is None or state != "confirming":
        return _ask({"confirm": _form("Please confirm", "ok", "boolean")}, "confirming")
    return _done("state-ok")


def _multiple_inputs(answers: Answers, state: str | None, _: types.ClientCapabilities) -> Rounds:
    requests: dict[str, Any] = {
        "user_name": _form("What is your name?", "name", "string"),
        "greeting": _sample("Generate a greeting", 50),
        "client_roots": types.ListRootsRequest(),
    }
    missing = {key: request for key, request in requests.items() if key not in answers}
    if missing or state != "gathering":
        return _ask(missing or requests, "gathering")
    return _done(f"{answers['greeting']['content']['text']} {len(answers['client_roots'])}")


def _multi_round(answers: Answers, state: str | None, _: types.ClientCapabilities) -> Rounds:
    name = _content(answers, "step1", "name")
    color = _content(answers, "step2", "color")
    if state == "second" and color is not None:
        return _done(f"Your favorite color is {color}.")
    if state is None or (state == "first" and name is None):
        return _ask({"step1": _form("Step 1: What is your name?", "name", "string")}, "first")
    question = _form("Step 2: What is your favorite color?", "color", "string")
    return _ask({"step2": question}, "second")


def _capabilities(_: Answers, __: str | None, declared: types.ClientCapabilities) -> Rounds:
    requests: dict[str, Any] = {}
    if declared.sampling is not None:
        requests["sample"] = _sample("Say something", 20)
    if declared.elicitation is not None:
        requests["form"] = _form("Say something", "text", "string")
    return _ask(requests) if requests else _done("The client declared nothing to ask it for.")


STEPS: Mapping[str, Step] = {
    f"{_PREFIX}elicitation": _elicitation,
    f"{_PREFIX}sampling": _sampling,
    f"{_PREFIX}list_roots": _list_roots,
    f"{_PREFIX}request_state": _request_state,
    f"{_PREFIX}tampered_state": _request_state,  # the server checks the seal before the tool runs
    f"{_PREFIX}multiple_inputs": _multiple_inputs,
    f"{_PREFIX}multi_round": _multi_round,
    f"{_PREFIX}capabilities": _capabilities,
}


def _plain(responses: Mapping[str, Any] | None) -> Answers:
    return {
        key: response.model_dump(by_alias=True, mode="json", exclude_none=True)
        for key, response in (responses or {}).items()
    }


def _content(answers: Answers, key: str, member: str) -> object:
    """One member of an accepted form, None where it is missing."""
    answer = answers.get(key) or {}
    return answer["content"].get(member) if answer.get("content") else None


def _form(message: str, member: str, kind: str) -> types.ElicitRequest:
    return types.ElicitRequest(
        params=types.ElicitRequestFormParams(
            message=message,
            requested_schema={
                "type": "object",
                "properties": {member: {"type": kind}},
                "required": [member],
            },
        )
    )


def _sample(question: str, max_tokens: int) -> types.CreateMessageRequest:
    content = types.TextContent(text=question)
    return types.CreateMessageRequest(
        params=types.CreateMessageRequestParams(
            messages=[types.SamplingMessage(role="user", content=content)], max_tokens=max_tokens
        )
    )


def _ask(requests: Mapping[str, Any], state: str | None = None) -> types.InputRequiredResult:
    return types.InputRequiredResult(input_requests=dict(requests), request_state=state)


def _done(text: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=text)])
