"""The command line's side of a lab: starting, asking, entering and ending it."""
