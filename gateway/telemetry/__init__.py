"""What is told of calls while they run: metrics to be read, spans and metrics that are sent.

None of it is the audit log: it is sampled, it may be lost, and no call waits for it.
"""
