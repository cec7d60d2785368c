# Each target does all set-up on a fresh machine (scripts/setup.sh); a second call is quick.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# Byte code switched off in the environment would double every start of a process.
unexport PYTHONDONTWRITEBYTECODE
export PATH := $(CURDIR)/.venv/bin:$(PATH)

PYTEST := .venv/bin/python -m pytest
# More at once, and tests of real clusters run into their time limits; long files are begun first.
WORKERS ?= 2
# For example: make lab LAB_OPTIONS=--no-browser
LAB_OPTIONS ?=
# For example: make fidelity FIDELITY_OPTIONS="--only numpy --details"
FIDELITY_OPTIONS ?=

.PHONY: help setup demo lab test test-quick test-ui lint format bench fidelity clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: ## the .venv, the node modules and the built panel
	@scripts/setup.sh lab

demo: ## run the example notebook on the local cluster and print a summary
	@scripts/setup.sh python
	@.venv/bin/python examples/run_demo.py

lab: ## open JupyterLab on the example notebook
	@scripts/setup.sh lab
	@.venv/bin/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) --ServerApp.root_dir=examples $(LAB_OPTIONS)

test: ## lint, unit tests, tests through real kernels, browser tests
	@scripts/setup.sh test
	@$(MAKE) --no-print-directory lint
	cd labextension && jlpm test
	$(PYTEST) --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder --ignore tests/ui
	$(PYTEST) tests/ui

test-quick: ## the Python tests that take no more than 10 s each, without a browser
	@scripts/setup.sh python
	$(PYTEST) --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder --ignore tests/ui -m "not slow"

test-ui: ## the browser tests alone
	@scripts/setup.sh test
	$(PYTEST) tests/ui

lint: ## ruff, mypy --strict, prettier, eslint, tsc
	@scripts/setup.sh lab
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	cd labextension && jlpm lint:check && jlpm typecheck

format: ## let the formatters mend what they can
	@scripts/setup.sh lab
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .
	cd labextension && jlpm lint

bench: ## measure, beside rivals in the same run; results in benchmarks/results
	@scripts/setup.sh python
	@.venv/bin/python -m benchmarks

fidelity: ## run other projects' documentation locally and remotely, and compare; FIDELITY_OPTIONS="--only numpy"
	@scripts/setup.sh python
	@.venv/bin/python -m fidelity $(FIDELITY_OPTIONS)

clean: ## remove what was built, and the .venv
	rm -rf .venv .fidelity labextension/node_modules labextension/lib extension/jupyter_remote_gpu/labextension dist build
