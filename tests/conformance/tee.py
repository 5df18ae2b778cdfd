"""Stands between a client and a stdio server and writes down every line that the server gets.

    python tee.py LOG COMMAND [ARGUMENT ...]

Imports nothing but the standard library and changes nothing.
"""

import subprocess
import sys
from pathlib import Path


def main(log: str, command: list[str]) -> int:
    """Run the command until its input ends; its exit status."""
    server = subprocess.Popen(command, stdin=subprocess.PIPE)
    assert server.stdin is not None
    with Path(log).open("ab", buffering=0) as heard, server.stdin as to_server:
        for line in sys.stdin.buffer:
            heard.write(line)
            try:
                to_server.write(line)
                to_server.flush()
            except BrokenPipeError:
                break
    return server.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
