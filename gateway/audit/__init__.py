"""The audit log: records, journal, index, reader."""
