"""Thousands of runs under faults of the API server and of the operator's own process: `make chaos`.

A real control plane, a played node, the operator with its Role's rights behind a proxy that
misbehaves, killed between its writes. What came of it is judged by others: a watch of the harness
at the API server itself, and the API server's audit log.
"""
