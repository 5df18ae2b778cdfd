"""The permission gateway between AI agents and the MCP servers they use."""
