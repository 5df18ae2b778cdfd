"""Measures the audit log: writing, indexing, size, verifying, and the questions people ask."""
