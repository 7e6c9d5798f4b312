# Every target prepares what it needs, the virtual environment included.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
# Tests with real sockets mostly wait, so one worker more than there are cores; WORKERS=0: all in one
# process. What a file's tests share is made once, so all of them go to one worker.
WORKERS ?= $(shell echo $$(( $$(getconf _NPROCESSORS_ONLN) + 1 )))
SPREAD = -n $(WORKERS) --dist loadfile
TOXICS := latency bandwidth timeout limit_data reset_peer

.DEFAULT_GOAL := help
.PHONY: help demo images test test-unit test-integration test-e2e fuzz inert lint lint-workflows \
  bench docs constraints compiled clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/ready$(if $(BACKEND),-test) compiled  ## bring up daemon and proxy, harm the wire in five ways, tell what was seen
	@$(BIN)/harness demo $(if $(SEED),--seed $(SEED)) $(if $(BACKEND),--backend $(BACKEND))

images: $(VENV)/ready-test  ## the container images: present, pulled, or made without a registry
	@$(BIN)/harness images

test: test-unit test-integration test-e2e  ## all tiers: unit, integration, e2e

test-unit: $(VENV)/ready-test compiled  ## isolated classes: no socket, seconds
	$(PYTEST) tests/unit --outcomes runs/outcomes/unit.json $(ARGS)

# Without BACKEND: on each backend that is at hand; what cannot run is skipped, by name. With
# BACKEND=docker what cannot run fails: it never falls back.
test-integration: $(VENV)/ready-test compiled  ## real sockets, real processes; BACKEND=docker: containers only
	$(PYTEST) tests/integration $(SPREAD) $(if $(BACKEND),--backend $(BACKEND)) \
	  --outcomes runs/outcomes/integration$(if $(BACKEND),-$(BACKEND)).json $(ARGS)

test-e2e: $(VENV)/ready-test compiled  ## client, proxy, daemon and tool; the wheel; SIGKILL at any moment
	$(PYTEST) tests/e2e $(SPREAD) --outcomes runs/outcomes/e2e.json $(ARGS)

# Hypothesis' seeds are fresh each time; each test prints how to do it again.
fuzz: $(VENV)/ready-test  ## send the daemon what nobody should, for SECONDS=600; planted defects first
	HARNESS_FUZZ_SECONDS=0 $(PYTEST) tests/integration/test_fuzz.py -k defect $(ARGS)
	HARNESS_FUZZ_SECONDS=$(or $(SECONDS),600) \
	  $(PYTEST) tests/integration/test_fuzz.py -k 'not defect' $(ARGS)

inert: $(VENV)/ready-test compiled  ## replace each toxic by one that does nothing: its tests must fail
	@for toxic in $(TOXICS); do \
	  echo "inert: $$toxic"; \
	  $(PYTEST) tests/unit tests/integration --inert $$toxic -q || exit 1; \
	done

lint: $(VENV)/ready-dev  ## ruff, mypy --strict, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# actionlint is a Go program, zizmor is on PyPI; each in a folder of its own. What cannot be had is
# said, and fails: whoever asks for the check wants it made.
TOOLS := .tools
ACTIONLINT := github.com/rhysd/actionlint/cmd/actionlint@v1.7.7
ZIZMOR := zizmor==1.32.0

lint-workflows: $(TOOLS)/actionlint $(TOOLS)/zizmor/bin/zizmor  ## the GitHub workflows: actionlint, zizmor
	$(TOOLS)/actionlint
	$(TOOLS)/zizmor/bin/zizmor --offline --no-progress .github/workflows

$(TOOLS)/actionlint:
	@command -v go >/dev/null || { echo "actionlint needs Go; install it" >&2; exit 1; }
	GOBIN=$(abspath $(TOOLS)) go install $(ACTIONLINT)

$(TOOLS)/zizmor/bin/zizmor:
	$(PYTHON) -m venv $(TOOLS)/zizmor
	$(TOOLS)/zizmor/bin/pip install -q --disable-pip-version-check $(ZIZMOR)

bench: $(VENV)/ready-bench compiled  ## the figures, each as a ratio or with its spread
	$(BIN)/python -m tests.benchmarks

docs: $(VENV)/ready  ## write what docs/configuration.md says of every key anew
	$(BIN)/python -m harness.resilience.config --write docs/configuration.md

constraints: $(VENV)/python  ## write constraints.txt anew from what the index serves today
	rm -rf .venv-fresh
	$(PYTHON) -m venv .venv-fresh
	.venv-fresh/bin/pip install -q --disable-pip-version-check '.[bench,dev]'
	{ head -2 constraints.txt; .venv-fresh/bin/pip freeze --exclude ws-harness; } > constraints.new
	mv constraints.new constraints.txt
	rm -rf .venv-fresh

clean:  ## remove the virtual environment, runs and caches
	rm -rf $(VENV) $(TOOLS) .venv-fresh runs dist build .pytest_cache .mypy_cache .ruff_cache \
	  .import_linter_cache .hypothesis
	find harness tests -name __pycache__ -type d -prune -exec rm -rf {} +

# A plain install, a test install, one for benchmarks, a developer's; each is made again when what it
# depends on changed.
INSTALL = $(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt

$(VENV)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) --version 2>&1)." \
	    "Give another: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "making the virtual environment $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/ready: $(VENV)/python pyproject.toml constraints.txt
	@echo "installing harness"
	@$(INSTALL) -e .
	@touch $@

# Compiled once, here: every test starts programs, and where PYTHONDONTWRITEBYTECODE is set each of them
# would compile all of it anew, which takes as long as the rest of its start.
compiled: $(VENV)/ready
	@$(BIN)/python -m compileall -q harness

$(VENV)/ready-test: $(VENV)/ready
	@echo "installing what the tests use"
	@$(INSTALL) -e '.[selftest]'
	@touch $@

$(VENV)/ready-bench: $(VENV)/ready-test
	@echo "installing what the benchmarks compare with"
	@$(INSTALL) -e '.[bench]'
	@touch $@

$(VENV)/ready-dev: $(VENV)/ready-test
	@echo "installing what developers use"
	@$(INSTALL) -e '.[dev]'
	@touch $@
