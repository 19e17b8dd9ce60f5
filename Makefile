# Each target does all of its own set-up in .venv; a machine needs only Python and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test check bench schema catalogue clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    distil a student from two real teachers on real reviews (under 10 minutes, 2 CPU cores)"
	@echo "make test    lint, types, floors, and all tests"
	@echo "make check   the quick part of it: lint, types, floors, unit tests"
	@echo "make bench   the benchmarks of jobs/bench.py (three hours on 2 CPU cores)"

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo,dev]'
	@touch $(READY)

demo: $(READY)
	$(BIN)/raydistill demo

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n auto --maxprocesses 4 -m "not slow and not gpu and not ray and not e2e and not network"

test: check
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "(ray or e2e or network) and not slow and not gpu" --durations 15 tests

bench: $(READY)
	$(BIN)/python jobs/bench.py all --page docs

schema: $(READY)
	$(BIN)/raydistill schema > jobs/configs/schema.json
	$(BIN)/raydistill schema --tasks > jobs/configs/schema_tasks.json

catalogue: $(READY)
	$(BIN)/raydistill losses --markdown > docs/LOSSES.md

clean:
	rm -rf $(VENV) build *.egg-info
