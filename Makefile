# Everything a developer types. `make setup` is quick when nothing changed; every other target begins with it.
.SUFFIXES:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
LOCKED := $(VENV)/.locked
INSTALLED := $(VENV)/.installed
PYTHONS := python3 python3.14 python3.13 python3.12 python3.11
PYTEST_ARGS :=

# uv is used for one thing, resolving for every Python and platform at once, so it lives in a throwaway venv.
# `editables` is what hatchling asks for when it installs a working tree.
COMPILE = --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --quiet
BUILD_TOOLS = $(BIN)/python -c 'import tomllib; \
	print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], "editables", sep="\n")'

.PHONY: help setup demo test test-full check lint bench lock clean

help:
	@echo 'make setup      a virtual environment in $(VENV), from the hash-pinned lock'
	@echo 'make demo       the whole proxy on this machine, with users, policies and an API to try'
	@echo 'make test       what CI runs: style, types, imports, every test; minutes'
	@echo 'make test-full  the same, and each module of the quiet floors covered by its own test module alone'
	@echo 'make check      as `make test`, without measuring coverage'
	@echo 'make bench      what each stage of a request costs on this machine'
	@echo 'make lock       resolve the dependencies after pyproject.toml changed; all anew: make lock UPGRADE=--upgrade'
	@echo 'make clean      remove what the above made'

setup: $(INSTALLED)

$(LOCKED): requirements-dev.lock
	@set -eu; found=; \
	for python in $(or $(PYTHON),$(PYTHONS)); do \
		if command -v "$$python" >/dev/null 2>&1 && \
			"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
		then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo 'ztproxy needs Python 3.11 or newer; none of these is one: $(or $(PYTHON),$(PYTHONS))' >&2; \
		echo 'install one, or name it: make setup PYTHON=/path/to/python3' >&2; \
		exit 1; \
	fi; \
	if ! "$$found" -c 'import ensurepip, venv' 2>/dev/null; then \
		echo "$$found has no venv and pip; on Debian and Ubuntu: apt-get install python3-venv" >&2; \
		exit 1; \
	fi; \
	rm -rf $(VENV); \
	"$$found" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

$(INSTALLED): $(LOCKED) pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: setup
	$(BIN)/ztproxy demo

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

check: lint
	$(BIN)/python -m pytest $(PYTEST_ARGS)

# Coverage is measured on the quiet floors alone, where it must be whole; elsewhere it would only slow the tests.
test: lint
	$(BIN)/python -m pytest $$($(BIN)/python tests/quiet_floors.py options) $(PYTEST_ARGS)

test-full: lint
	$(BIN)/python tests/quiet_floors.py each
	$(BIN)/python -m pytest --cov=ztproxy --cov-branch --cov-report=term:skip-covered $(PYTEST_ARGS)

bench: setup
	$(BIN)/python loadtests/stages.py

lock: setup
	rm -rf build/uv
	$(BIN)/python -m venv build/uv
	build/uv/bin/python -m pip install --quiet --disable-pip-version-check uv
	build/uv/bin/uv pip compile $(COMPILE) $(UPGRADE) --extra speed -o requirements.lock pyproject.toml
	$(BUILD_TOOLS) | build/uv/bin/uv pip compile $(COMPILE) $(UPGRADE) --extra speed --group dev \
		-c requirements.lock -o requirements-dev.lock pyproject.toml -

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage .coverage.*
	find ztproxy tests -name __pycache__ -type d -prune -exec rm -rf {} +
