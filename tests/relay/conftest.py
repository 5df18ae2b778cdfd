"""Runs a scenario on a bench."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from tests.relay.bench import Bench

Run = Callable[..., None]
"""Runs a scenario on a bench with these options, and closes it."""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs a scenario on a bench, and closes it afterwards."""

    def run_on_bench(
        scenario: Callable[[Bench], Coroutine[Any, Any, None]], **options: Any
    ) -> None:
        failures: list[dict[str, Any]] = []

        async def whole() -> None:
            asyncio.get_running_loop().set_exception_handler(
                lambda _, context: failures.append(context)
            )
            bench = Bench(tmp_path, **options)
            await scenario(bench)
            await bench.close()
            assert bench.client.expected == 0

        asyncio.run(whole())
        assert failures == []

    return run_on_bench
