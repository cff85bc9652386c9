"""The control loop under every fault, in every order, at small bounds: `make model-check`.

The operator's own Store, reconcile and Executor run in a cluster of plain documents, one step at a
time. documents.py and states.py say what a state is; cluster.py, events.py, server.py, looks.py and
moves.py what may happen in one; scenarios.py how far it goes; properties.py what has to hold.
explore.py goes everywhere, and mutants.py breaks the rules to see whether that is noticed.
docs/decisions/0023-the-model-check.md says why it is so.
"""
