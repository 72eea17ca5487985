"""``meshd bench --kube``: the same load on a Kubernetes cluster, between labelled pods; the same report."""
