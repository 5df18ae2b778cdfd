"""A client session: identity, decision, record, upstream and back."""
