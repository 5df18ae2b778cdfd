"""The official MCP conformance suite and a differential test, direct and through the gateway."""
