"""Accepting a configuration as a person does with `gateway trust`, before tests start gateways."""

import os
from collections.abc import Mapping
from pathlib import Path
from unittest import mock

from gateway.config.trust import accept


def accept_in(environment: Mapping[str, str], config: Path) -> None:
    """Accept `config` as it is now for gateways that run in `environment`; raises UserError."""
    with mock.patch.dict(os.environ, environment, clear=True):
        accept(config, cwd=config.parent)
