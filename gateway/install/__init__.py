"""Puts the gateway into the configuration of clients, and takes it out again."""
