"""The benchmark: this gateway, its limit and its peers, measured side by side in one run."""
