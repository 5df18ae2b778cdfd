"""Where a configuration has its state kept."""

import os
from pathlib import Path

from gateway.audit.files import default_directory
from gateway.config.settings import Settings
from gateway.state import state_directory


def audit_directory(settings: Settings) -> Path:
    """The directory of the audit log: the configured one, else the user's own."""
    configured = settings.audit.directory
    if configured is None:
        return default_directory(os.environ)
    return Path(settings.root, Path(configured).expanduser())


def approvals_directory() -> Path:
    """Where calls wait for a person: the user's own, for every gateway of theirs."""
    return state_directory(os.environ) / "approvals"


def spool_directory() -> Path:
    """Where the host's hook leaves whose a call is: the user's own, whatever the configuration."""
    return state_directory(os.environ) / "calls"
