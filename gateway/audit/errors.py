"""The error of an audit log that cannot take a record."""


class AuditUnavailable(Exception):  # noqa: N818 - the name states the condition, as in the interface
    """A record could not be committed; what it stands for must not happen (fail closed)."""
