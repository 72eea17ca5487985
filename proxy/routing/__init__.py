"""Where a request goes, and as what. Pure."""
