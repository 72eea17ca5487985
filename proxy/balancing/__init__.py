"""Which endpoint of a cluster takes a request. Pure."""
