"""The benchmark's harness, in its smallest cases; no times are asserted."""
