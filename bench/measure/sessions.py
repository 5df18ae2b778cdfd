"""What idle sessions cost: memory of a process with a thousand of them."""

import asyncio
import time

from bench.load.http import HttpSession
from bench.load.messages import BadAnswerError
from bench.measure.running import Running
from bench.net.client import Pool

_BUDGET_S = 20.0


async def idle_sessions(running: Running, wanted: int) -> dict[str, float]:
    """Open so many sessions, as far as time allows, and look at the memory.

    They share a few connections: an idle client has none open. Raises BadAnswerError.
    """
    endpoint = running.endpoint
    if endpoint is None:
        raise BadAnswerError("a stdio client has one session")
    before_mb = running.family.rss_mb()
    pool = Pool(endpoint.url)
    deadline_s = time.monotonic() + _BUDGET_S
    opened = 0
    try:
        while opened < wanted and time.monotonic() < deadline_s:
            batch = min(10, wanted - opened)
            await asyncio.gather(
                *(HttpSession.open(endpoint.url, endpoint.headers, pool=pool) for _ in range(batch))
            )
            opened += batch
        await asyncio.sleep(0.2)
        after_mb = running.family.rss_mb()
    finally:
        pool.close()
    return {
        "sessions_opened": float(opened),
        "rss_sessions_mb": after_mb,
        "session_kb": (after_mb - before_mb) * 1000 / opened,
    }
