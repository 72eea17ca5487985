"""What is read of TLS without its keys."""
