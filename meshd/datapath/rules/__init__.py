"""A service's routes as the kernel knows them: compiled, packed, written, and decided by."""
