"""The PreToolUse hook of a client: decides its native tools and registers its MCP calls."""
