"""The bare byte relay: what forwarding costs in Python when nothing is parsed. The limit."""
