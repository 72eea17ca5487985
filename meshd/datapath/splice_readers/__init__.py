"""Who calls splice(2)."""
