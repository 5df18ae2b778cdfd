"""`gateway check --format sarif`: what code scanning services take, checked by a schema."""

import json
import os
import re
from pathlib import Path
from typing import Any, get_args

import jsonschema_rs
import pytest

import gateway
from gateway.catalog.pins import Part
from gateway.catalog.scan import Code
from gateway.cli.notes import Note
from gateway.cli.sarif import HELP, sarif
from tests.cli.conftest import Outcome, Project, Run

TEXT = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string"}}}
LEVEL = {"enum": ["none", "note", "warning", "error"]}
ARTIFACT = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "uri": {"type": "string", "format": "uri-reference"},
        "uriBaseId": {"type": "string"},
        "description": TEXT,
    },
}
RULE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["id"],
    "properties": {
        "id": {"type": "string"},
        "shortDescription": TEXT,
        "help": TEXT,
        "defaultConfiguration": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"level": LEVEL},
        },
    },
}
RESULT = {
    "type": "object",
    "additionalProperties": False,
    "required": ["message"],
    "properties": {
        "ruleId": {"type": "string"},
        "ruleIndex": {"type": "integer", "minimum": -1},
        "level": LEVEL,
        "message": TEXT,
        "partialFingerprints": {"type": "object", "additionalProperties": {"type": "string"}},
        "properties": {"type": "object"},
        "locations": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "physicalLocation": {
                        "type": "object",
                        "additionalProperties": False,
                        "required": ["artifactLocation"],
                        "properties": {
                            "artifactLocation": ARTIFACT,
                            "region": {
                                "type": "object",
                                "additionalProperties": False,
                                "properties": {"startLine": {"type": "integer", "minimum": 1}},
                            },
                        },
                    }
                },
            },
        },
    },
}
ESSENTIALS = {
    "type": "object",
    "additionalProperties": False,
    "required": ["version", "runs"],
    "properties": {
        "$schema": {"type": "string", "format": "uri"},
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["tool"],
                "properties": {
                    "tool": {
                        "type": "object",
                        "required": ["driver"],
                        "properties": {
                            "driver": {
                                "type": "object",
                                "additionalProperties": False,
                                "required": ["name"],
                                "properties": {
                                    "name": {"type": "string"},
                                    "version": {"type": "string"},
                                    "rules": {"type": "array", "items": RULE, "uniqueItems": True},
                                },
                            }
                        },
                    },
                    "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
                    "originalUriBaseIds": {"type": "object", "additionalProperties": ARTIFACT},
                    "results": {"type": "array", "items": RESULT},
                },
            },
        },
    },
}
"""What the published schema of SARIF 2.1.0 says of the members that are used here."""

is_sarif = jsonschema_rs.Draft202012Validator(ESSENTIALS, validate_formats=True)


def run_of(outcome: Outcome) -> dict[str, Any]:
    """The one run of a log that keeps to the schema, its results pointing to their rules."""
    log = json.loads(outcome.out)
    is_sarif.validate(log)
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
    assert isinstance(run, dict)
    return run


def place(result: dict[str, Any]) -> tuple[str, int]:
    (location,) = result["locations"]
    physical = location["physicalLocation"]
    assert physical["artifactLocation"]["uriBaseId"] == "%SRCROOT%"
    return physical["artifactLocation"]["uri"], physical["region"]["startLine"]


def test_every_finding_is_a_result_with_its_rule_and_place(project: Project, run: Run) -> None:
    project.offers("srv", ["echo"])
    project.agent("tester", ["Read", "mcp__srv__echo", "mcp__srv__gone", "mcp__nowhere__echo"])
    project.write()
    outcome = run("check", "--live", "--format", "sarif")
    assert outcome.code == 1
    scan = run_of(outcome)
    found = {each["ruleId"]: each for each in scan["results"]}
    assert {code: each["level"] for code, each in found.items()} == {
        "native-tools": "note",
        "unknown-upstream": "warning",
        "vanished-tool": "warning",
    }
    assert place(found["vanished-tool"]) == (".claude/agents/tester.md", 7)
    assert found["vanished-tool"]["properties"] == {
        "agent": "tester",
        "upstream": "srv",
        "tool": "mcp__srv__gone",
    }
    rules = {rule["id"]: rule for rule in scan["tool"]["driver"]["rules"]}
    assert rules["vanished-tool"]["shortDescription"]["text"] == HELP["vanished-tool"]
    assert rules["vanished-tool"]["defaultConfiguration"]["level"] == "warning"


def test_without_findings_the_log_is_empty_and_whole(project: Project, run: Run) -> None:
    project.offers("srv", ["echo"])
    project.agent("tester", ["mcp__srv__echo"])
    project.write()
    outcome = run("check", "--format", "sarif")
    assert outcome.code == 0
    assert run_of(outcome)["results"] == []


def test_a_configuration_that_cannot_be_loaded_is_a_result_too(project: Project, run: Run) -> None:
    project.agent("tester", [])
    project.settings = {"upstream": {}, "default_agent": "nobody"}
    project.write()
    outcome = run("check", "--format", "sarif")
    assert outcome.code == 2
    results = run_of(outcome)["results"]
    assert [(each["ruleId"], each["level"], place(each)) for each in results] == [
        ("unusable-configuration", "error", ("gateway.yaml", 1))
    ] * 2
    assert len(outcome.err.splitlines()) == 2


def test_a_finding_keeps_its_fingerprint_when_it_moves(project: Project, run: Run) -> None:
    def fingerprint() -> dict[str, str]:
        project.write()
        (result,) = run_of(run("check", "--format", "sarif"))["results"]
        found = result["partialFingerprints"]
        assert isinstance(found, dict)
        return found

    project.offers("srv", ["echo"])
    project.agent("tester", ["mcp__nowhere__echo"])
    first = fingerprint()
    project.agent("tester", ["mcp__srv__echo", "mcp__nowhere__echo"])
    assert fingerprint() == first
    project.agent("tester", ["mcp__nowhere__else"])
    assert fingerprint() != first


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("a b/ü%.md", "a%20b/%C3%BC%25.md"),
        ("/root/x:y.md", "x%3Ay.md"),
        ("/elsewhere/x.md", "file:///elsewhere/x.md"),
        (os.fsdecode(b"\xff.md"), "%FF.md"),
    ],
)
def test_paths_become_uris(path: str, uri: str) -> None:
    note = Note(severity="info", code="inherits", message="m", path=path, line=0)
    log = sarif([note], root="/root", version="1")
    is_sarif.validate(log)
    (location,) = log["runs"][0]["results"][0]["locations"]
    assert location["physicalLocation"]["artifactLocation"]["uri"] == uri
    assert "region" not in location["physicalLocation"]


def test_a_finding_without_a_place_has_no_location() -> None:
    note = Note(severity="info", code="not-known-here", message="m", path="", line=0)
    log = sarif([note], root="/root", version="1")
    is_sarif.validate(log)
    assert "locations" not in log["runs"][0]["results"][0]
    assert log["runs"][0]["tool"]["driver"]["rules"][0]["shortDescription"] == {
        "text": "Not known here."
    }


def test_every_code_of_a_finding_has_its_help() -> None:
    root = Path(gateway.__file__).parent
    text = "\n".join(
        path.read_text()
        for part in ("agents", "config", "policy")
        for path in (root / part).glob("*.py")
    )
    notes = [path for path in (root / "cli").glob("*.py") if "Note" in path.read_text()]
    text += "\n".join(path.read_text() for path in notes)
    code = r"\"([a-z]+(?:-[a-z0-9]+)*)\""
    found = {
        *re.findall(rf"log\.(?:error|warning|info)\(\s*{code}", text),
        *re.findall(rf"Finding\(\s*(?:code=)?{code}", text),
        *re.findall(rf"\bcode={code}", text),
        *re.findall(rf"_note\(\s*{code}", text),
        *(f"changed-{part}" for part in get_args(Part)),
        *get_args(Code),
    }
    assert len(found) > 55
    assert found <= HELP.keys()
