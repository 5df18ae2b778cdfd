"""Projects for the gateway, and a client over either transport."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.e2e.http import HttpClient
from tests.e2e.inbox import Inbox
from tests.e2e.stdio import StdioClient
from tests.e2e.world import World

Open = Callable[[World], AbstractContextManager[Inbox]]


@pytest.fixture
def world(tmp_path: Path) -> World:
    """An empty project."""
    return World(tmp_path)


@contextmanager
def over_stdio(world: World, upstream: str = "canary") -> Iterator[StdioClient]:
    with world.connect(upstream) as client:
        yield client


@contextmanager
def over_http(world: World, upstream: str = "canary") -> Iterator[HttpClient]:
    with world.serve() as served, HttpClient(served.url(upstream)) as client:
        yield client


@pytest.fixture(params=[over_stdio, over_http], ids=["stdio", "http"])
def connect(request: pytest.FixtureRequest) -> Open:
    """A client of a new gateway over each transport."""
    chosen: Open = request.param
    return chosen
