"""Services and endpoints in the maps: the plan, and who performs it."""
