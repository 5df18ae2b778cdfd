"""PostgreSQL as the store that many gateways share; the journals stay the first commit."""
