"""Actions, grants and the one decision function (pure)."""
