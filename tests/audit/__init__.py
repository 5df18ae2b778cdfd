"""The audit log, tested on real files and with real processes."""
