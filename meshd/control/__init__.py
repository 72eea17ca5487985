"""The control plane: watches a source of objects and serves xDS over gRPC."""
