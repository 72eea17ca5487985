"""What is told of requests: metrics and the access log."""
