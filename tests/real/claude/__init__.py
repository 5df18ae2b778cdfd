"""Claude Code itself, offline: a stub of its model, scratch homes and projects to run it in."""
