"""The contract of lmms-eval-operator: the documents that its parts exchange.

Operator, runner, CLI and dashboard import this package and never each other. It holds no I/O with
a cluster, a store or a model: documents (pydantic), the pure functions that plan a run from them,
and the data they rest on (model profiles, the index of lmms-eval's names).
"""

API_GROUP = "lmms-eval.io"
API_VERSION = f"{API_GROUP}/v1alpha1"
__version__ = "0.1.0"
