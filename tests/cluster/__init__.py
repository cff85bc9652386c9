"""A real Kubernetes cluster on one machine, for the tests and for a person.

It needs no registry and starts no service.

`control_plane.py` runs etcd, the API server, the controller manager and the scheduler; `node.py`
adds containerd and a kubelet, whose node advertises GPUs that are not there; `s3.py` a store;
`images.py` builds the project's images and brings them into the node. `tools.py` gets the parts,
once, into the cache. `ledger.py` sees to it that nothing is left behind.

`fixtures.py` says how tests use it, `python -m cluster` (PYTHONPATH=tests) how a person does.
"""
