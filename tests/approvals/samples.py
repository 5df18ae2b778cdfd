"""Requests in few words."""

import time
from typing import Any

from gateway.approvals.request import AskingRule, Request


def request(identifier: str = "0123456789abcdef", **changes: Any) -> Request:
    now_s = time.time()
    fields: dict[str, Any] = {
        "id": identifier,
        "call": "call-1",
        "session": "session",
        "agent": "tester",
        "identified": "process",
        "tool": "mcp__canary__echo",
        "rules": (AskingRule("ask-echo", "policies/p.yaml", 3, "Look."),),
        "headline": "The agent tester asks to call mcp__canary__echo.",
        "text": "The agent tester asks to call mcp__canary__echo.\nArguments: none",
        "ways": ("command", "console"),
        "remember": ("call", "session", "15m"),
        "asked_s": now_s,
        "expires_s": now_s + 300,
    }
    return Request(**{**fields, **changes})
