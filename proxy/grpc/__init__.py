"""gRPC as far as it shows in heads and trailers: deadlines, statuses, answers of our own. Pure."""
