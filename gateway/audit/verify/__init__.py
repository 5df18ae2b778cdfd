"""Finds out what a log proves: whether it is whole, and where it first is not."""
