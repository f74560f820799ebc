# Each target finds or makes .venv itself and puts it first on PATH, since DVC runs the `python` it finds there.
SHELL := /bin/bash
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
UV := 0.13.8
PORT ?= 5000
COMPILE = UV_CUSTOM_COMPILE_COMMAND="make lock" uv pip compile -q --universal --python-version 3.11 --generate-hashes

.DEFAULT_GOAL := help
.PHONY: help setup repro test test-slow test-faults test-cluster test-infra lint format lock lock-cpu ui clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

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
	@pytest -m "slow and not faults and not cluster"

test-faults: .venv/.ready  ## real runs with processes killed, disks full, files damaged; prints a table
	@pytest -m faults tests/faults

test-cluster: .venv/.ready .venv/mlflow/.ready  ## a cluster of hosts on this machine, whose machines and links fail; needs root
	@INFRA_MLFLOW="$(CURDIR)/.venv/mlflow" pytest -m cluster tests/cluster

test-infra: .venv/.ready .venv/infra/.ready .venv/mlflow/.ready  ## the manifests of infra/: validators, scripts, an MLflow server
	@PATH="$$PATH:$(CURDIR)/.venv/infra/bin" INFRA_MLFLOW="$(CURDIR)/.venv/mlflow" pytest -m "slow or not slow" tests/infra

.venv/infra/.ready: requirements-infra.lock
.venv/mlflow/.ready: infra/mlflow/requirements.lock
.venv/infra/.ready .venv/mlflow/.ready: .venv/.ready
	@echo "installing $(filter %.lock,$^) into $(@D)"
	@uv venv -q --clear $(@D)
	@uv pip install -q --python $(@D)/bin/python --require-hashes -r $(filter %.lock,$^)
	@touch $@

lint: .venv/.ready  ## style and types
	@ruff check .
	@ruff format --check .
	@mypy

format: .venv/.ready  ## put the code in the standard form
	@ruff check --fix-only -q .
	@ruff format -q .
	@python -m pipelines.params --schema > params.schema.json

lock: .venv/.ready  ## resolve requirements.lock and those of infra/ anew from pyproject.toml
	@$(COMPILE) --upgrade --extra dev pyproject.toml -o requirements.lock
	@$(COMPILE) --upgrade --group infra -o requirements-infra.lock
	@$(COMPILE) --upgrade --group mlflow-server --constraints requirements.lock -o infra/mlflow/requirements.lock
	@$(COMPILE) --upgrade --group ray-on-gcp --constraints requirements.lock -o infra/ray/gcp.lock

lock-cpu: .venv/.ready  ## requirements-cpu.lock from PyTorch's own index, so that the CPU image's downloads are pinned too
	@UV_CUSTOM_COMPILE_COMMAND="make lock-cpu" uv pip compile -q --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
	  --torch-backend cpu --generate-hashes --constraints <(grep -oE '^[A-Za-z0-9._-]+==[^\\]+' requirements.lock) \
	  pyproject.toml -o requirements-cpu.lock

ui: .venv/.ready  ## open MLflow on the embedded store, http://127.0.0.1:5000 (PORT=...)
	@python -m pipelines.ui --port $(PORT)

clean:  ## remove results and caches; runs, registry (.state) and .venv stay
	@rm -rf results .pytest_cache .mypy_cache .ruff_cache
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
