"""Takes secrets out of texts and JSON values: by the name beside them and by their form (pure)."""
