"""The gateway.yaml configuration and the snapshot compiled from it."""
