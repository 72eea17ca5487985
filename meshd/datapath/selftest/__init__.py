"""Whether this kernel's sockmaps do what the fast path needs."""
