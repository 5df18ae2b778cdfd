"""Where the benchmark keeps its things."""

from pathlib import Path

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
PEERS = BENCH / ".peers"
"""Throw-away environments with the peers; `python -m bench peers` fills it."""
WORK = BENCH / ".work"
"""Configurations, journals and the output of what is measured; on the disk, not in memory, because
one of the figures is what fdatasync costs."""
RESULTS = BENCH / "results"
REPORT = ROOT / "docs" / "performance.md"
PLOTS = ROOT / "docs" / "performance"
