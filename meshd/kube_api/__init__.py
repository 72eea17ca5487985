"""The Kubernetes API server: how to reach it, and how to follow what it holds."""
