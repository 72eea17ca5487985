"""The Kubernetes objects that a user gives the lab."""
