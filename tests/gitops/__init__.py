"""How GitOps tools take a run: `make gitops-check` asks the code of Argo CD, kstatus and Flux.

argo, kstatus and flux are Go programs around it, with a go.mod each, since their dependencies
disagree. They read a JSON list on standard input, and write one.
"""
