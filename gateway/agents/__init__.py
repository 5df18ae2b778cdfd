"""Agent definition files, read exactly as their client reads them or refused (pure)."""
