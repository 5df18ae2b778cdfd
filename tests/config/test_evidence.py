"""The settings of `audit` that make it evidence, and that a person accepts them first."""

import re
from pathlib import Path

import pytest

from gateway.audit.anchors import CommandAnchor, FileAnchor, WebhookAnchor
from gateway.audit.notes import Signer
from gateway.config.evidence import checkpoints_of, signer_of
from gateway.config.problems import ConfigurationError
from gateway.config.settings import RetentionSettings, SegmentSettings
from gateway.errors import UserError

from .conftest import Project
from .test_trust import accept_now, in_force
from .test_trust import accepted as accepted

BASE = "upstreams: {web: {command: web}}\n"


def test_what_can_be_set(project: Project) -> None:
    project.config(
        BASE
        + """audit:
  signing_key: ${file:key}
  checkpoints: {records: 10, seconds: 5}
  segments: {max_bytes: 1048576, max_age: 12h}
  retention: {max_age: 30d, max_bytes: 1073741824}
  anchor:
  - file: anchored
  - webhook: https://example.com/${TOKEN}
    headers: {Authorization: "${TOKEN}"}
  - command: [git, notes, add]
"""
    )
    audit = project.load().settings.audit
    assert (audit.checkpoints.records, audit.checkpoints.seconds) == (10, 5)
    assert audit.segments == SegmentSettings(max_bytes=1048576, max_age_s=43_200)
    assert audit.retention == RetentionSettings(max_bytes=1 << 30, max_age_s=30 * 86_400)
    file, webhook, command = audit.anchor
    assert file.file == str(project.root / "anchored")
    assert webhook.webhook == "https://example.com/${TOKEN}"
    assert command.command == ("git", "notes", "add")
    assert [each.line for each in audit.anchor] == [8, 9, 11]


@pytest.mark.parametrize(
    ("text", "line", "sentence"),
    [
        ("signing_key: PRIVATE+KEY+a", 3, "audit.signing_key must refer to the key"),
        ("signing_key: ${file:}", 3, "audit.signing_key: a ${...} is no reference"),
        ("segments: {max_age: 1 day}", 3, "audit.segments.max_age must be an age"),
        ("segments: {max_bytes: 1}", 3, "audit.segments.max_bytes must be at least 65536."),
        ("retention: {max_age: 0d}", 3, "audit.retention.max_age must be an age"),
        ("checkpoints: {records: 0}", 3, "audit.checkpoints.records must be at least 1."),
        ("anchor: [{}]", 3, "audit.anchor[0] needs one of file, webhook and command."),
        ("anchor: [{file: a, webhook: 'http://b'}]", 3, "audit.anchor[0] needs one of"),
        ("anchor: [{file: a, headers: {A: b}}]", 3, "audit.anchor[0] has headers without"),
    ],
)
def test_mistakes(project: Project, text: str, line: int, sentence: str) -> None:
    project.config(f"{BASE}audit:\n  {text}\n")
    with pytest.raises(ConfigurationError) as raised:
        project.load()
    [problem] = raised.value.problems
    assert (problem.line, problem.message[: len(sentence)]) == (line, sentence)
    assert "PRIVATE" not in problem.message


def test_none_of_it_changes_before_a_person_accepts_it(accepted: Project) -> None:
    accepted.config(BASE + "audit: {signing_key: '${KEY}'}\n")
    accept_now(accepted)
    accepted.config(BASE + "audit: {retention: {max_age: 1d}, anchor: [{command: [curl, evil]}]}\n")
    loaded = in_force(accepted)
    assert loaded.settings.audit.signing_key == "${KEY}"
    assert loaded.settings.audit.retention == RetentionSettings()
    assert loaded.settings.audit.anchor == ()
    assert any(finding.message.startswith("audit stays as it was") for finding in loaded.held)


def test_the_key_and_the_anchors_are_made_of_it(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signer = Signer.generate("a")
    monkeypatch.setenv("KEY", signer.text())
    monkeypatch.setenv("TOKEN", "sesame")
    project.config(
        BASE + "audit: {signing_key: '${KEY}', anchor: [{file: f}, {webhook: 'https://h/${TOKEN}', "
        "headers: {A: 'B ${TOKEN}'}}, {command: [git, '${TOKEN}']}]}\n"
    )
    settings = project.load().settings
    made = signer_of(settings, tmp_path)
    assert made is not None
    assert made.verifier() == signer.verifier()
    checkpoints = checkpoints_of(settings, tmp_path)
    assert checkpoints is not None
    file, webhook, command = checkpoints._anchors
    assert file == FileAnchor(project.root / "f")
    assert webhook == WebhookAnchor("https://h/sesame", {"A": "B sesame"})
    assert isinstance(command, CommandAnchor)
    assert command.argv == ("git", "${TOKEN}")  # no secret into the list of processes
    monkeypatch.setenv("KEY", "not a key")
    with pytest.raises(UserError, match=re.escape("gateway.yaml:2: is not a signing key")):
        signer_of(settings, tmp_path)
    monkeypatch.delenv("KEY")
    with pytest.raises(UserError, match="KEY is not set"):
        signer_of(settings, tmp_path)


def test_without_a_key_nothing_is_signed(project: Project, tmp_path: Path) -> None:
    project.config(BASE)
    assert checkpoints_of(project.load().settings, tmp_path) is None
    project.config(BASE + "audit:\n  anchor: [{file: f}]\n")
    with pytest.raises(UserError, match=re.escape("gateway.yaml:3: audit.anchor keeps nothing")):
        checkpoints_of(project.load().settings, tmp_path)
