"""What of a request is decided by, and how it is changed; pure."""
