"""Tests, mirroring the package; tests/real starts real parts."""
