# Each target finds or makes .venv itself and puts it first on PATH, since DVC runs the `python` it finds there.
SHELL := /bin/bash
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
UV := 0.13.8
PORT ?= 5000

.DEFAULT_GOAL := help
.PHONY: help setup repro test test-slow test-faults lint format lock ui clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

setup: .venv/.ready  ## make .venv from requirements.lock (the other targets do this by themselves)

.venv/.ready: requirements.lock pyproject.toml
	@python=$$(for name in python3.11 python3.12 python3.13 python3; do \
	  $$name -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && command -v $$name && break; done); \
	  test -n "$$python" || { echo "error: Python 3.11, 3.12 or 3.13 is needed and was not found on PATH" >&2; exit 1; }; \
	  test -x .venv/bin/python || "$$python" -m venv .venv
	@echo "installing the locked environment into .venv (about 6 GB, mostly torch)"
	@.venv/bin/python -m pip install -q --disable-pip-version-check "uv==$(UV)"
	@.venv/bin/uv pip install -q --python .venv/bin/python --compile-bytecode --require-hashes -r requirements.lock
	@.venv/bin/uv pip install -q --python .venv/bin/python --no-deps --no-build-isolation --editable .
	@touch $@

repro: .venv/.ready  ## images to a registered model: dvc repro, then the numbers
	@dvc repro
	@python -m pipelines.summary

test: .venv/.ready  ## the tests that run on every change
	@pytest

test-slow: .venv/.ready  ## the long ones: end-to-end variants, kills, mutations of the formulas
	@pytest -m "slow and not faults"

test-faults: .venv/.ready  ## real runs with processes killed, disks full, files damaged; prints a table
	@pytest -m faults tests/faults

lint: .venv/.ready  ## style and types
	@ruff check .
	@ruff format --check .
	@mypy

format: .venv/.ready  ## put the code in the standard form
	@ruff check --fix-only -q .
	@ruff format -q .
	@python -m pipelines.params --schema > params.schema.json

lock: .venv/.ready  ## resolve requirements.lock anew from pyproject.toml
	@UV_CUSTOM_COMPILE_COMMAND="make lock" uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes \
	  --extra dev pyproject.toml -o requirements.lock

ui: .venv/.ready  ## open MLflow on the embedded store, http://127.0.0.1:5000 (PORT=...)
	@python -m pipelines.ui --port $(PORT)

clean:  ## remove results and caches; runs, registry (.state) and .venv stay
	@rm -rf results .pytest_cache .mypy_cache .ruff_cache
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
