"""Fixtures for tests with real parts."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.claude.client import Workspace
from tests.real.installed import NotForThisMachineError, claude
from tests.real.world import World


@pytest.fixture(scope="package")
def world() -> Iterator[World]:
    """One world for all tests here; assert on differences of its counts, not on totals."""
    with World() as running:
        yield running


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A home and a project for Claude Code."""
    try:
        claude()
    except NotForThisMachineError as error:
        pytest.skip(str(error))
    return Workspace(tmp_path)
