"""Who runs a process, as records name a person."""

import os
import pwd

import pytest

from gateway.identity.person import user_name


def test_the_environment_names_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "somebody else")
    assert user_name() == pwd.getpwuid(os.geteuid()).pw_name
