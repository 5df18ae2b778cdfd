"""Fixtures for tests with real parts."""

from collections.abc import Iterator

import pytest

from tests.real.world import World


@pytest.fixture(scope="package")
def world() -> Iterator[World]:
    """One world for all tests here; assert on differences of its counts, not on totals."""
    with World() as running:
        yield running
