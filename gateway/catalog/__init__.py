"""What upstreams offer: names, tool ids, definition digests, drift (pure)."""
