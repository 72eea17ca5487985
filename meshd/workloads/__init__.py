"""Which workloads are on this node: what runtime and API server know, and who of it is in the mesh."""
