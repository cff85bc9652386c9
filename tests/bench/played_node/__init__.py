"""A node that only plays: its pods run nothing, and end as they are told.

For benchmarks with more pods than this machine could run. The scheduler binds pods to it as to any
node; the programs of the control plane see the statuses that a kubelet would have written, two
writes a pod. Start it with `process.start`, or by hand:

    PYTHONPATH=tests python -m bench.played_node --kubeconfig FILE --seconds 2 --serve
"""
