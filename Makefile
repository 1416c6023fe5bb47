# Every habit is one word. `make help` lists them.
.DEFAULT_GOAL := help
SHELL := bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORK := .work
export PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS ?= 120
export PREFECT_SERVER_ANALYTICS_ENABLED ?= false
export DO_NOT_TRACK ?= 1
# Two BLAS threads give other bits than one, and implicit asks for one.
export OPENBLAS_NUM_THREADS ?= 1

.PHONY: help setup nightly test lint bench prove lock deploy clean

help: ## what can be done here
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

setup: $(VENV)/.ready ## make .venv from requirements.lock; does nothing when it is up to date

$(VENV)/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("tailorbird needs Python 3.11 or later") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

nightly: setup ## the main job on a small fixed sample: landing, lake and summary under .work/
	@rm -rf $(WORK)/nightly && mkdir -p $(WORK)/nightly
	$(BIN)/tailorbird sample --users 400 --items 300 --events 20000 --days 90 --seed 1 --to $(WORK)/nightly/landing
	$(BIN)/tailorbird nightly --landing $(WORK)/nightly/landing --lake $(WORK)/nightly/lake --as-of 2026-03-31

test: setup ## all tests but the long fault catalogue, the fast ones first, on two cores
	$(BIN)/python -m pytest -m "not prove" --numprocesses 2 --dist loadfile --no-loadscope-reorder

lint: setup ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup ## ours, peers and floors in one run, into benchmarks/results.md
	$(BIN)/python -m benchmarks.run

prove: setup ## the long fault catalogue
	$(BIN)/python -m pytest -m prove

lock: setup ## renew requirements.lock from pyproject.toml: universal, hashed, without addresses
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --extra dev \
		--upgrade pyproject.toml --output-file requirements.lock

deploy: setup ## create the work pool, deploy every flow of prefect.yaml, and upsert automations, at $$PREFECT_API_URL
	@for name in PREFECT_API_URL TAILORBIRD_HOME TAILORBIRD_LANDING TAILORBIRD_LAKE; do \
		[ -n "$${!name}" ] || { echo "make deploy: $$name is not set; see README, On Prefect" >&2; exit 2; }; done
	$(BIN)/prefect work-pool create tailorbird --type process --overwrite
	$(BIN)/prefect --no-prompt deploy --all
	$(BIN)/python -m flows.automations

clean: ## remove everything that these commands made
	rm -rf $(VENV) $(WORK) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
