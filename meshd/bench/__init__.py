"""``meshd bench``: the same load with and without a mesh, and a report of what it cost."""
