# `make help` lists the targets. All of them work in one environment, .venv, which is made on the
# first call and brought up to date when pyproject.toml or constraints.txt changes.

VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 2
ARGS ?=

# The first interpreter that starts, is new enough for the pins and can make an environment.
CANDIDATES := python3.11 python3.12 python3.13 python3
USABLE := import ensurepip, sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in $(CANDIDATES); do "$$p" -c '$(USABLE)' >/dev/null 2>&1 && echo "$$p" && break; done)

# One thread for each test worker: otherwise the workers fight for the cores.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
# A figure goes to a file, never to a window.
NO_WINDOW := MPLBACKEND=Agg

PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# The pinned setuptools builds the package, so every machine has the same one.
INSTALL_SKAE := $(PIP_INSTALL) --no-build-isolation --editable
PINS := pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test lint format docs clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.for-demo ## the quick tour: examples/quickstart.py
	$(ONE_THREAD) $(NO_WINDOW) $(BIN)/python examples/quickstart.py

test: $(VENV)/.for-tests ## all tests and doctests (WORKERS=2, ARGS="-k name")
	$(ONE_THREAD) $(NO_WINDOW) $(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

lint: $(VENV)/.for-dev ## ruff (rules and format) and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy skae

format: $(VENV)/.for-dev ## what ruff can mend by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.for-docs ## the pages, in docs/_build/html; a warning is an error
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

clean: ## remove the environment and everything that can be made again
	rm -rf $(VENV) build dist *.egg-info docs/_build docs/generated docs/gallery
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find skae tests examples benchmarks docs -name __pycache__ -type d -prune \
	    -exec rm -rf {} + 2>/dev/null || true

# Stamps: an empty file says that this part of the environment is installed.

$(VENV)/.python:
	@test -n "$(PYTHON)" || { echo "Found no Python 3.11 or newer: make PYTHON=/path/to/python ..."; exit 1; }
	"$(PYTHON)" -m venv $(VENV)
	@touch $@

# torch first and alone, so that no later step draws in another build of it.
$(VENV)/.torch: $(VENV)/.python constraints.txt
	$(PIP_INSTALL) setuptools torch
	@touch $@

$(VENV)/.for-demo: $(VENV)/.torch $(PINS)
	$(INSTALL_SKAE) ".[plots]"
	@touch $@

$(VENV)/.for-tests: $(VENV)/.torch $(PINS)
	$(INSTALL_SKAE) ".[tests]"
	@touch $@

$(VENV)/.for-dev: $(VENV)/.torch $(PINS)
	$(INSTALL_SKAE) ".[dev]"
	@touch $@

$(VENV)/.for-docs: $(VENV)/.torch $(PINS)
	$(INSTALL_SKAE) ".[docs]"
	@touch $@
