"""Loopback stand-ins for the services that the real MCP servers call."""
