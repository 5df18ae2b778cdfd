"""Real servers that speak one protocol era only, and clients of each era to put before them."""
