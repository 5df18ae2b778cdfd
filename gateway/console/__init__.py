"""The page to read the audit log with, see who may do what, and answer what waits for a person."""
