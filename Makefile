# Every target does all its own set-up and installs nothing twice; `make` alone lists them.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Tests wait for processes more than they compute: three at a time suit two cores.
WORKERS ?= 3
PYTEST := $(BIN)/pytest -n $(WORKERS) --dist worksteal
# Names what was installed, so that another lock file or project file means another set-up.
PACKAGES := $(VENV)/.installed-$(shell cat requirements.lock pyproject.toml | sha256sum | cut -c 1-16)

# Writes a lock file for every platform, without the address of any registry.
COMPILE := $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate \
	--no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' --quiet

.PHONY: help
help: ## List the targets.
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

.PHONY: setup
setup: $(PACKAGES) ## Install everything: Python packages, servers, clients, browser, database.
	@tests/real/setup --all

.PHONY: demo
demo: $(PACKAGES) ## Watch the gateway allow, refuse and record calls (ARGS=--partial: or fewer servers).
	@tests/real/setup --newest
	@$(BIN)/gateway demo $(ARGS)

.PHONY: test
test: lint ## Check the code and run every test, those with real servers included.
	@tests/real/setup --all
	@tests/conformance/setup
	$(PYTEST) -m 'not slow' $(ARGS)

.PHONY: test-real
test-real: $(PACKAGES) ## Run every test with real parts, those that take long included (container images).
	@tests/real/setup --all
	@tests/docker/setup
	$(PYTEST) -m real $(ARGS)

.PHONY: torture
torture: $(PACKAGES) ## Kill the gateway under load a hundred times and verify the log each time (ROUNDS=n).
	TORTURE_ROUNDS=$(or $(ROUNDS),100) $(BIN)/pytest tests/e2e/test_torture.py $(ARGS)

.PHONY: conformance
conformance: $(PACKAGES) ## Run the official conformance suite directly and through the gateway.
	@tests/real/setup --newest
	@tests/conformance/setup
	$(BIN)/python -m tests.conformance $(ARGS)

.PHONY: bench
bench: $(PACKAGES) ## Measure the gateway, its peers and the audit log (ARGS=--quick: sooner; SCALE=10: more records).
	$(BIN)/python -m bench $(ARGS)
	$(BIN)/python -m bench audit --publish

.PHONY: mutation
mutation: $(PACKAGES) ## Change the decision code in every small way; tests must notice (an hour).
	$(BIN)/python -m tests.mutation $(ARGS)

.PHONY: test-fast
test-fast: $(PACKAGES) ## Run the tests that need nothing but Python.
	$(PYTEST) -m 'not real' $(ARGS)

.PHONY: lint
lint: $(PACKAGES) ## Check style, types and the layers of imports.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: lock
lock: $(PACKAGES) ## Choose the newest package versions and write the lock files anew.
	$(BIN)/pip install --quiet uv
	$(COMPILE) pyproject.toml --group dev --upgrade --output-file requirements.lock
	$(COMPILE) pyproject.toml --extra postgres --constraint requirements.lock \
		--output-file docker/requirements.lock
	echo hatchling | $(COMPILE) - --constraint requirements.lock --output-file docker/build.lock

.PHONY: clean
clean: ## Remove what was installed and what tools left behind.
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rm -rf tests/docker/.cache
	find tests -name node_modules -prune -exec rm -rf {} +
	find gateway tests -name __pycache__ -prune -exec rm -rf {} +

$(PACKAGES):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo 'Python 3.11 or newer is needed: make PYTHON=/path/to/it' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo 'Python set-up: installing python3-venv'; \
		apt-get update -q >/dev/null && apt-get install -qy python3-venv >/dev/null; }
	@echo 'Python set-up: installing what requirements.lock names'
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/pip install -qq --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@rm -f $(VENV)/.installed-*
	@touch $@
