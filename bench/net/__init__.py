"""HTTP/1.1 framing on httptools and nothing more: what load client, relay and upstream share."""
