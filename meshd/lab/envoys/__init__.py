"""Real Envoys as carriers: beside each app, or one a node."""
