"""Client and upstream transports: stdio, streamable HTTP, process supervision (I/O)."""
