"""What follows from the objects: pods, addresses, endpoints, names, rules. Pure."""
