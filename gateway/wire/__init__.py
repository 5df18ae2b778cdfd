"""JSON-RPC messages, framing and protocol revisions as bytes in, bytes out (pure)."""
