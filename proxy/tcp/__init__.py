"""TCP connections that are routed as a whole: none of their bytes is changed."""
