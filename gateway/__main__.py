"""`python -m gateway` is the `gateway` command."""

from gateway.cli.entry import main

main()
