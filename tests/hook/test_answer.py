"""What the host is told."""

import json

from gateway.hook.answer import refusal


def test_a_refusal_is_the_hosts_json() -> None:
    assert json.loads(refusal('it is "declared" nowhere', "ask")) == {
        "hookSpecificOutput": {
            "hookEventName": "PreToolUse",
            "permissionDecision": "ask",
            "permissionDecisionReason": 'it is "declared" nowhere',
        }
    }


def test_a_name_that_is_no_text_is_told_in_escapes() -> None:
    told = json.loads(refusal("a\udcff"))["hookSpecificOutput"]
    assert told["permissionDecision"] == "deny"
    assert told["permissionDecisionReason"] == "a\\udcff"
