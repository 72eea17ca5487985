"""A small cluster on one machine: nodes and pods are network namespaces."""
