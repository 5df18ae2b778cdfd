"""What is measured: direct, the bare relay, this gateway, and its peers."""
