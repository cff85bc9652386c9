# Every target does all of its own set-up: a virtual environment in .venv, and tools in a cache
# outside the checkout.

PYTHON ?= python3
UV_VERSION := 0.13.9
VERSITYGW_VERSION := v1.8.0
# A service's environment may lack it; Go and Python look for the cache there.
export HOME := $(or $(HOME),$(shell getent passwd "$$(id -u)" | cut -d: -f6))
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/lmms-eval-operator
BIN := .venv/bin
STAMP := .venv/.installed
EXAMPLE := examples/easy-vqa

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this help
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## (.*)/  make \1\t\2/' | expand -t 24

.PHONY: install
install: $(STAMP) ## Make .venv with everything that runs, tests and checks the project

.PHONY: demo
demo: $(STAMP) $(EXAMPLE)/data/easy_vqa_test.parquet ## Evaluate a small real model on this machine (no cluster, no GPU)
	OMP_NUM_THREADS=1 $(BIN)/evalrun run $(EXAMPLE)/benchmark.yaml $(EXAMPLE)/run.yaml

$(EXAMPLE)/data/easy_vqa_test.parquet: $(STAMP)
	$(BIN)/python $(EXAMPLE)/make_data.py

.PHONY: test
test: $(STAMP) $(EXAMPLE)/data/easy_vqa_test.parquet ## Check and test everything, and say how long each tier took (root, Go)
	@$(MAKE) --no-print-directory cluster-parts || \
	  echo "make: not all parts of a cluster are here, so the tests that need them are skipped (with CI=true: they fail)" >&2
	@$(BIN)/python tests/tiers.py

.PHONY: e2e
e2e: $(STAMP) $(EXAMPLE)/data/easy_vqa_test.parquet cluster-parts ## The end-to-end tests alone: real pods on a real node
	$(BIN)/pytest -v -p no:cacheprovider -m e2e --durations=8 --tb=short

# Benchmarks print figures and where they were taken; each ends with a line BENCH {json}, and fails
# if a bound of its own is broken. None is part of `make test`.
BENCH := PYTHONPATH=tests OMP_NUM_THREADS=1 $(BIN)/python -m

.PHONY: exactness
exactness: $(STAMP) $(EXAMPLE)/data/easy_vqa_test.parquet ## Show that every way of splitting, killing and resuming gives plain lmms-eval's numbers (ARGS=--break: that a wrong merge is seen)
	HF_HUB_OFFLINE=1 $(BENCH) bench.exactness $(ARGS)

.PHONY: bench-kill
bench-kill: $(STAMP) versitygw ## Kill runs 120 times at random moments and count what is lost (40 minutes; ARGS="--kills 10 --terms 2 --seed 1" for less)
	$(BENCH) bench.kill $(ARGS)

.PHONY: bench-runner
bench-runner: $(STAMP) ## Time the runner beside plain lmms-eval, large images, workers, a journal (20 minutes; ARGS="--pairs 2 --limit 1000" for less)
	$(BENCH) bench.runner $(ARGS)

.PHONY: bench-gpu
bench-gpu: $(STAMP) ## The same on a GPU, and its memory overfilled (exit code 3 where there is no GPU)
	$(BENCH) bench.gpu $(ARGS)

.PHONY: bench-journal
bench-journal: $(STAMP) ## Open a journal of 1,000,000 records for resume
	$(BENCH) bench.journal $(ARGS)

# What the operator's image installs: .venv has more, and some of it would be imported.
OPERATOR_STAMP := .venv-operator/.installed
$(OPERATOR_STAMP): $(STAMP) images/operator.txt
	@rm -rf .venv-operator
	$(BIN)/uv venv --quiet .venv-operator
	VIRTUAL_ENV=$(CURDIR)/.venv-operator $(BIN)/uv pip install --quiet --compile-bytecode --require-hashes -r images/operator.txt
	@printf '%s\n' $(CURDIR)/crds $(CURDIR)/operator > "$$(.venv-operator/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/packages.pth"
	@.venv-operator/bin/python -m compileall -q crds/evalrun_api operator/evalrun_operator
	@touch $@

.PHONY: bench-control
bench-control: $(STAMP) $(OPERATOR_STAMP) cluster-tools ## Measure the operator at a real control plane: a burst, latency, memory, 10,000 stored runs (40 minutes; ARGS="--stored 1000 --idle-seconds 60" for less)
	$(BENCH) bench.control $(ARGS)

.PHONY: model-check
model-check: $(STAMP) ## Explore every state that the control loop can reach at small bounds, with faults, and break its rules (3 minutes on 2 cores; ARGS="--only suspended" for some)
	PYTHONPATH=tests:tests/operator $(BIN)/python -m model_check.check $(ARGS)

.PHONY: attacks
attacks: $(STAMP) cluster-tools ## Try every attack of the threat model on real parts, and print what each gets (1 minute)
	CI=true $(BIN)/pytest -q -p no:cacheprovider --tb=short tests/security

.PHONY: chaos
chaos: $(STAMP) cluster-tools ## Play 2,000 runs while the API server misbehaves and the operator is killed 50 times (23 minutes on 2 cores; ARGS="--runs 200 --kills 10 --seed 1" for less)
	$(BENCH) bench.chaos $(ARGS)

.PHONY: check
check: $(STAMP) ## Lint, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: format
format: $(STAMP) ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: generate
generate: $(STAMP) ## Write what is generated: CRDs, the index of lmms-eval's names, docs, dashboards, files of the chart
	$(BIN)/python -m evalrun_runner.harness.generate_index
	$(BIN)/python -m evalrun_api.crd
	$(BIN)/python docs/generate.py
	$(BIN)/python gitops/argocd/generate.py
	PYTHONPATH=charts $(BIN)/python -m dashboards
	$(BIN)/python charts/chart_files.py

.PHONY: constraints
constraints: .venv/bin/uv ## Pin every dependency anew, with hashes
	$(BIN)/uv pip compile --quiet --upgrade --generate-hashes --no-header --no-annotate \
	  --no-emit-index-url --no-emit-find-links --universal --python-version 3.11 --all-extras \
	  pyproject.toml --output-file constraints.txt
	@for extra in operator runner; do \
	  $(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-annotate \
	    --no-emit-index-url --no-emit-find-links --universal --python-version 3.11 --extra $$extra \
	    --constraints constraints.txt pyproject.toml --output-file images/$$extra.txt || exit 1; \
	done
	@cp images/runner.txt images/runner-vllm.txt # the same versions, wherever vLLM lets them be
	$(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-annotate \
	  --no-emit-index-url --no-emit-find-links --python-platform x86_64-manylinux_2_28 \
	  --python-version 3.11 --extra runner pyproject.toml images/runner-vllm.in \
	  --output-file images/runner-vllm.txt

.PHONY: clean
clean: ## Remove what the other targets made in the checkout
	rm -rf .venv .venv-operator dist evalrun-results $(EXAMPLE)/data
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "make: $(PYTHON) is missing or older than 3.11. Install Python 3.11 or newer (Debian: apt-get install python3 python3-venv)," >&2; \
	  echo "      or name one: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -m venv .venv || { echo "make: $(PYTHON) cannot make virtual environments. Debian: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

$(STAMP): .venv/bin/uv constraints.txt pyproject.toml
	@echo "installing what the project needs (7 GB, most of it torch with CUDA) ..."
	VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/uv pip install --quiet --require-hashes -r constraints.txt
	VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# A real S3 server for the tests. Without Go its tests are skipped (with CI=true: they fail).
.PHONY: versitygw
versitygw:
	@if [ ! -x $(CACHE)/versitygw-$(VERSITYGW_VERSION)/versitygw ]; then \
	  if command -v go >/dev/null; then \
	    echo "building versitygw $(VERSITYGW_VERSION) (once, about 2 minutes) ..."; \
	    GOFLAGS=-buildvcs=false GOBIN=$(CACHE)/versitygw-$(VERSITYGW_VERSION) \
	      go install github.com/versity/versitygw/cmd/versitygw@$(VERSITYGW_VERSION); \
	  else \
	    echo "Go is missing (https://go.dev/dl or your distribution's package golang): tests with S3 or a cluster will be skipped" >&2; \
	  fi; \
	fi

# A real cluster on this machine, for the tests and for a person: tests/cluster. Needs root, Debian and Go.
CLUSTER := PYTHONPATH=tests $(BIN)/python -m cluster

.PHONY: cluster-tools
cluster-tools: $(STAMP) versitygw ## Get what a real cluster is made of (once; 8 minutes of Go compiling)
	@$(CLUSTER) tools

# The compiler has two cores' work for 8 minutes, the runner's image is mostly copied: both at once.
.PHONY: cluster-parts
cluster-parts: $(STAMP) ## Get all that the tests with a cluster need: its tools and the images
	@$(MAKE) --no-print-directory --jobs=2 --keep-going cluster-tools built-images

.PHONY: kueue-tools
kueue-tools: $(STAMP) ## Build the real Kueue, for the tests beside it (once; 3 minutes of Go compiling)
	@$(CLUSTER) kueue

.PHONY: kueue-e2e
kueue-e2e: $(STAMP) $(EXAMPLE)/data/easy_vqa_test.parquet cluster-parts kueue-tools ## Show runs in the real Kueue's queues: 20 share 4 GPUs, one is preempted (20 minutes; ARGS="--runs 8" for less)
	CI=true $(BIN)/pytest -q -p no:cacheprovider -m kueue tests/kueue
	PYTHONPATH=tests:tests/kueue $(BIN)/python tests/kueue/e2e.py $(ARGS)

# How GitOps tools take a run, from their own code: tests/gitops.
GITOPS := PYTHONPATH=tests:tests/operator $(BIN)/python -m

.PHONY: gitops-tools
gitops-tools: $(STAMP) ## Build what asks Argo CD's, kstatus' and Flux' own code (once; 3 minutes of Go compiling)
	@$(GITOPS) gitops.tools

.PHONY: gitops-check
gitops-check: $(STAMP) cluster-tools gitops-tools ## Show what GitOps tools make of a run in every state, and hold it against the docs
	$(GITOPS) gitops.check

.PHONY: dashboards-tools
dashboards-tools: $(STAMP) ## Get the real Prometheus and promtool (once; Debian's package, unpacked into the cache)
	@$(CLUSTER) prometheus

.PHONY: dashboards-check
dashboards-check: $(STAMP) $(OPERATOR_STAMP) $(EXAMPLE)/data/easy_vqa_test.parquet cluster-tools dashboards-tools ## Test the alerts, and run each query of each dashboard on a real Prometheus (3 minutes)
	PYTHONPATH=tests OMP_NUM_THREADS=1 tests/observe/alone.sh $(BIN)/python -m observe

.PHONY: chart-tools
chart-tools: $(STAMP) ## Build Helm, kubeconform and what else checks the chart (once; 5 minutes of Go compiling)
	@$(CLUSTER) chart

.PHONY: chart-check
chart-check: $(STAMP) cluster-tools chart-tools ## Check the Helm chart: lint, schemas, a real API server, restricted pods, upgrades
	CI=true $(BIN)/pytest -q -p no:cacheprovider -m chart --durations=3 tests/chart

.PHONY: rbac-check
rbac-check: $(STAMP) cluster-tools chart-tools kueue-tools ## Show for each toggle of the chart that the verbs granted are the verbs used
	CI=true PYTHONPATH=tests $(BIN)/pytest -q -p no:cacheprovider -m rbac --durations=4 tests/chart

.PHONY: helm-e2e
helm-e2e: $(STAMP) $(EXAMPLE)/data/easy_vqa_test.parquet cluster-parts chart-tools ## Follow the guide to Helm on a real node: install, test, upgrade under a run, roll back, remove
	PYTHONPATH=tests $(BIN)/python tests/chart/e2e.py $(ARGS)

.PHONY: images
images: $(STAMP) ## Build both images, list what they are made of, show sizes and start-up (VARIANT=vllm; VARIANT=cpu TORCH_INDEX=URL)
	@$(CLUSTER) show-images

.PHONY: built-images
built-images: $(STAMP)
	@$(CLUSTER) images

.PHONY: cluster
cluster: cluster-parts $(EXAMPLE)/data/easy_vqa_test.parquet ## Start a real one-node cluster in the background, and say how to use it
	@$(CLUSTER) up

.PHONY: cluster-down
cluster-down: $(STAMP) ## End the cluster, and clear what killed tests left
	@$(CLUSTER) down
