"""`telemetry:` in gateway.yaml: what it says, what is wrong with it, and what nobody accepted."""

import pytest

from gateway.config.load import load
from gateway.config.settings import TelemetrySettings
from gateway.config.trust import accept
from gateway.errors import UserError

from .conftest import Project
from .test_policies import _state as _state

CONFIG = "upstreams: {db: {command: db}}\n"


def telemetry(project: Project, *, trusted: bool = True) -> TelemetrySettings:
    return load(None, cwd=project.root, trusted=trusted).settings.telemetry


def test_what_is_sent_is_a_setting(project: Project) -> None:
    project.config(CONFIG)
    assert telemetry(project) == TelemetrySettings()
    project.config(CONFIG + "telemetry: {traces: true, endpoint: 'https://otel.example:4318/x'}\n")
    told = telemetry(project)
    assert (told.traces, told.metrics, told.arguments) == (True, False, False)
    assert told.endpoint == "https://otel.example:4318/x"


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("{}", "telemetry sends nothing; set traces or metrics"),
        ("{endpoint: 'http://x:4318'}", "telemetry sends nothing"),
        ("{traces: true, endpoint: 'http://me:secret@x'}", "OTEL_EXPORTER_OTLP_HEADERS"),
        ("{traces: true, endpoint: 'x:4318'}", "must be the base URL of a collector"),
        ("{traces: yes please}", "must be true or false"),
        ("{trace: true}", "did you mean 'traces'?"),
    ],
)
def test_a_mistake_is_told_with_its_key(project: Project, written: str, told: str) -> None:
    project.config(CONFIG + f"telemetry: {written}\n")
    with pytest.raises(UserError) as caught:
        project.load()
    assert told in str(caught.value)
    assert "secret" not in str(caught.value)


def test_more_is_sent_once_it_is_accepted_and_less_at_once(project: Project) -> None:
    project.config(CONFIG)
    accept(None, cwd=project.root)
    project.config(CONFIG + "telemetry: {traces: true, endpoint: 'http://a'}\n")
    assert telemetry(project, trusted=False) == TelemetrySettings()
    accept(None, cwd=project.root)
    project.config(
        CONFIG + "telemetry: {traces: true, metrics: true, arguments: true, endpoint: 'http://b'}\n"
    )
    assert telemetry(project, trusted=False) == TelemetrySettings(traces=True, endpoint="http://a")
    project.config(CONFIG)
    assert not telemetry(project, trusted=False).traces
