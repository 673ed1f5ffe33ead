# Every target that CI runs is here; `.ci/run` only calls them.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3.11
WORKSPACE ?= kino-workspace
SEED ?= 0
DEMO_VIDEOS ?= $(WORKSPACE)/demo-videos-$(SEED)

# Targets name files below .venv, so that an activated environment never changes what they use.
BIN := .venv/bin
KINO := KINO_WORKSPACE=$(WORKSPACE) $(BIN)/kino
UV := .uv/bin/uv
LOCK := $(UV) pip compile pyproject.toml --universal --generate-hashes --no-emit-index-url \
	--no-emit-find-links --python-version 3.11 --quiet --extra train --extra pipelines --extra app --extra dev

.PHONY: help setup setup-colossalai demo test test-long lint check bench lock clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "%-18s%s\n", $$1, $$2}'

setup: .venv/.complete ## Fill .venv with the locked packages and this checkout (editable)

setup-colossalai: .venv-colossalai/.complete ## Fill .venv-colossalai: torch 2.5.1 and ColossalAI

demo: setup ## From raw videos to a registered model and a generated clip
	test -e $(DEMO_VIDEOS)/captions.csv || $(KINO) data synth --out $(DEMO_VIDEOS) --seed $(SEED)
	$(KINO) run --recipe tiny --videos $(DEMO_VIDEOS) --set seed=$(SEED)
	$(KINO) show last

test: setup ## All tests but the long ones; includes a real run of the whole pipeline
	$(BIN)/python -m pytest -m "not slow" $(ARGS)

test-long: setup ## The longer proofs: kill and resume, the cache, concurrent runs
	$(BIN)/python -m pytest -m slow $(ARGS)

lint: setup ## Format and lint check, types, layers
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

check: lint test ## What CI checks

bench: setup ## Run all benchmarks, the models' on small cases (a few minutes)
	$(BIN)/python benchmarks/cli_startup.py
	$(BIN)/python benchmarks/buckets.py
	$(BIN)/python benchmarks/models.py --quick

lock: $(UV) ## Resolve the dependencies anew and write both locks
	$(LOCK) --output-file requirements/default.lock
	$(LOCK) --extra colossalai --constraint requirements/colossalai.constraints \
		--output-file requirements/colossalai.lock
	$(UV) pip compile requirements/installer.in --universal --generate-hashes --no-emit-index-url \
		--no-emit-find-links --python-version 3.11 --quiet --output-file requirements/installer.lock

clean: ## Remove environments, caches and build outputs (never the workspace: see `kino rm`)
	rm -rf .venv .venv-colossalai .uv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache \
		.hypothesis .coverage htmlcov dist build
	find platform components tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(UV): requirements/installer.lock
	$(PYTHON) -m venv .uv
	.uv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/installer.lock
	touch $@

# A second `make setup` compares time stamps and does nothing.
%/.complete: $(UV) pyproject.toml
	test -x $*/bin/python || $(UV) venv --quiet --python $(PYTHON) $*
	VIRTUAL_ENV=$(CURDIR)/$* $(UV) pip sync --quiet --require-hashes $(filter %.lock,$^)
	VIRTUAL_ENV=$(CURDIR)/$* $(UV) pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

.venv/.complete: requirements/default.lock
.venv-colossalai/.complete: requirements/colossalai.lock
