"""Records the input schemas of the installed servers for the tests of the packs."""

import os
import tempfile
from pathlib import Path

from tests.policy.recordings import record, schemas_of
from tests.real.installed import GENERATIONS, Generation
from tests.real.rawclient import RawClient
from tests.real.world import World

PACKS = ("supabase", "playwright", "firecrawl", "context7", "filesystem")


def offered(world: World, upstream: str, generation: Generation) -> dict[str, object]:
    """What one server offers. Raises KeyError where the generation has no such server."""
    entry = world.entry(upstream, generation)
    with tempfile.TemporaryDirectory(prefix="real-recording-") as home:
        environment = {"PATH": os.environ["PATH"], "HOME": home, **entry.env}
        command = [entry.command, *entry.args]
        with RawClient(command, env=environment, cwd=Path(home)) as client:
            return schemas_of(client.tools())


def generations_of(upstream: str) -> tuple[Generation, ...]:
    """The generations that have such a server."""
    return ("newest",) if upstream == "filesystem" else GENERATIONS


def main() -> None:
    """Write all of them."""
    with World() as world:
        for upstream in PACKS:
            record(
                upstream,
                {each: offered(world, upstream, each) for each in generations_of(upstream)},
            )


if __name__ == "__main__":
    main()
