"""Mutation testing of the decision code: `make mutation`."""
