"""`limits` of a rule in a policy file: how they are written, and what is wrong with others."""

from typing import Any

import pytest

from gateway.config.limits import LimitsPart, read_limits
from gateway.config.load import load
from gateway.config.problems import ConfigurationError
from gateway.config.trust import accept
from gateway.errors import UserError
from gateway.policy.limits import Limit, Limits

from .conftest import Project
from .test_policies import _state as _state

CONFIG = "upstreams: {db: {command: db}}\npolicies: policies\n"
RULE = """
rules:
- name: few
  effect: allow-only-if
  tools: mcp__db__query
  limits: {}
"""


@pytest.fixture
def limited(project: Project) -> Project:
    project.config(CONFIG)
    project.agent("a", "mcp__db__query")
    return project


def write(project: Project, limits: str, *, effect: str = "allow-only-if") -> None:
    text = RULE.replace("{}", limits).replace("allow-only-if", effect)
    project.write("policies/a.yaml", text)


def complaint(project: Project) -> tuple[str | None, int | None, str]:
    with pytest.raises(UserError) as caught:
        project.load()
    problems = (
        caught.value.problems if isinstance(caught.value, ConfigurationError) else (caught.value,)
    )
    (only,) = problems
    return only.path, only.line, only.message


@pytest.mark.parametrize(
    ("written", "limits"),
    [
        ({"calls": "30/hour"}, Limits((Limit("calls", 30, 3_600),))),
        (
            {"calls": ["5/10s", "100/2h"]},
            Limits((Limit("calls", 5, 10), Limit("calls", 100, 7_200))),
        ),
        ({"in_flight": 2}, Limits((Limit("in_flight", 2),))),
        ({"result_bytes": "50MB/day"}, Limits((Limit("result_bytes", 50_000_000, 86_400),))),
        ({"result_bytes": "4 KiB/min"}, Limits((Limit("result_bytes", 4_096, 60),))),
        ({"result_bytes": "7/second"}, Limits((Limit("result_bytes", 7, 1),))),
        (
            {"in_flight": 1, "calls": "1/15minutes", "per": ["upstream", "agent"]},
            Limits((Limit("calls", 1, 900), Limit("in_flight", 1)), ("agent", "upstream")),
        ),
        ({"in_flight": 1, "per": "rule"}, Limits((Limit("in_flight", 1),), ("rule",))),
    ],
)
def test_limits_mean_what_they_say(written: dict[str, Any], limits: Limits) -> None:
    assert read_limits(LimitsPart.model_validate(written)) == (limits, [])


@pytest.mark.parametrize(
    ("limits", "key", "told"),
    [
        ("{}", "limits ", "limits nothing; add calls"),
        ("{per: tool}", "limits ", "limits nothing"),
        ("{calls: 0/hour}", "limits.calls[0]", "such as 30/hour"),
        ("{calls: 30 per hour}", "limits.calls[0]", "such as 30/hour"),
        ("{calls: 30}", "limits.calls", "must be a list"),
        ("{calls: 1/40days}", "limits.calls[0]", "longer time than 31 days"),
        ("{calls: [1/hour, 2/60min]}", "limits.calls[1]", "about the same time"),
        ("{in_flight: 0}", "limits.in_flight", "at least 1"),
        ("{in_flight: true}", "limits.in_flight", "whole number"),
        ("{result_bytes: 50TB/day}", "limits.result_bytes[0]", "such as 50MB/day"),
        ("{result_bytes: 999999999999999GB/day}", "limits.result_bytes[0]", "is more than"),
        ("{calls: 1/hour, per: [agent, rule]}", "limits.per", "name nothing besides"),
        ("{calls: 1/hour, per: [agent, agent]}", "limits.per", "names one thing twice"),
        ("{calls: 1/hour, per: session}", "limits.per[0]", "'agent', 'tool'"),
        ("{call: 1/hour}", "limits.call ", "did you mean 'calls'?"),
    ],
)
def test_a_mistake_is_told_with_file_line_and_key(
    limited: Project, limits: str, key: str, told: str
) -> None:
    write(limited, limits)
    path, line, message = complaint(limited)
    assert (path, line) == ("policies/a.yaml", 6)
    assert message.startswith(f"rules[0].{key}")
    assert told in message


@pytest.mark.parametrize("effect", ["deny", "ask"])
def test_limits_belong_to_allow_only_if(limited: Project, effect: str) -> None:
    write(limited, "{calls: 1/hour}", effect=effect)
    assert "limits belongs to allow-only-if" in complaint(limited)[2]


class TestTrust:
    def amounts(self, project: Project, *, trusted: bool = False) -> list[tuple[int, bool]]:
        rules = load(None, cwd=project.root, trusted=trusted).snapshot.rules.rules
        return [(each.limits.limits[0].amount, each.former) for each in rules if each.limits]

    def test_a_lower_limit_holds_at_once_and_a_higher_one_when_it_is_accepted(
        self, limited: Project
    ) -> None:
        write(limited, "{calls: 30/hour}")
        accept(None, cwd=limited.root)
        write(limited, "{calls: 20/hour}")
        assert self.amounts(limited) == [(20, False), (30, True)]
        write(limited, "{calls: 40/hour}")
        # The lower of the two holds: both are demanded.
        assert self.amounts(limited) == [(40, False), (30, True)]
        accept(None, cwd=limited.root)
        assert self.amounts(limited) == [(40, False)]
