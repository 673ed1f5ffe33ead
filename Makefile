# CI only calls targets of this file: `.ci/run` calls setup, lint and test, and with a cluster at hand test-cluster;
# .github/workflows calls the others.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3.11
# A bare version (`make wheelhouse PYTHON=3.12`) is that of another machine.
INTERPRETER := $(if $(filter 3.%,$(PYTHON)),python3.11,$(PYTHON))
WORKSPACE ?= kino-workspace
SEED ?= 0
DEMO_VIDEOS ?= $(WORKSPACE)/demo-videos-$(SEED)

# Targets name files below .venv, so that an activated environment never changes what they use. Paths from outside
# (the checkout's, WORKSPACE, DEMO_VIDEOS) reach a shell as variables of its own alone: they may hold any character.
BIN := .venv/bin
UV := .uv/bin/uv
COMPILE := $(UV) pip compile --universal --generate-hashes --no-emit-index-url --no-emit-find-links \
	--python-version 3.11 --quiet
LOCK := $(COMPILE) pyproject.toml --extra train --extra pipelines --extra app --extra dev
# An image holds the versions of the environment that it was tried in, and pip for `pip check`.
LOCK_IMAGE := $(COMPILE) pyproject.toml requirements/images.in --extra pipelines

# Test processes at once. Tests that share what they build stay in one of them (tests/conftest.py).
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

ENGINE ?= docker
IMAGE_PREFIX ?= ghcr.io/kinetoscope
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
TAG ?= $(VERSION)
# For the builder: --build-arg BASE_IMAGE=..., --timestamp ..., --volume ...
BUILD_FLAGS ?=

# Before 3.13, Python reads what names the checkout in the letters of the locale, and does not start with LC_ALL=C if it
# holds others: those are written as bytes.
ASCII_PTH := import pathlib, sys; path = pathlib.Path(sys.argv[1]); data = path.read_bytes(); \
	lines = [f"import os, sys; sys.path.append(os.fsdecode({line!r}))\n" for line in data.splitlines()]; \
	data.isascii() or path.write_text("".join(lines))

# An environment of the wheel and its base dependencies alone.
BARE := build/bare

.PHONY: help setup setup-colossalai demo test test-deploy test-long test-cluster test-cluster-long test-kubeflow \
	coverage parity wheel test-wheel wheelhouse lint check bench images manifests lock clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' Makefile | awk -F ':.*## ' '{printf "%-18s%s\n", $$1, $$2}'

setup: .venv/.complete ## Fill .venv with the locked packages and this checkout (editable)

setup-colossalai: .venv-colossalai/.complete ## Fill .venv-colossalai: torch 2.5.1 and ColossalAI

demo: export KINO_WORKSPACE = $(WORKSPACE)
demo: export VIDEOS = $(DEMO_VIDEOS)
demo: setup ## From raw videos to a registered model and a generated clip
	test -e "$$VIDEOS/captions.csv" || $(BIN)/kino data synth --out "$$VIDEOS" --seed $(SEED)
	$(BIN)/kino run --recipe tiny --videos "$$VIDEOS" --set seed=$(SEED)
	$(BIN)/kino show last

test: setup ## All tests but the long ones; includes a real run of the whole pipeline, never a cluster
	$(PYTEST) -m "not slow" --ignore tests/cluster $(ARGS)

test-deploy: setup ## The tests of the chart, the manifests and the images (a part of `make test`)
	$(PYTEST) tests/deploy $(ARGS)

test-long: setup ## The longer proofs: kill and resume, the cache, concurrent runs
	$(PYTEST) -m slow --ignore tests/cluster $(ARGS)

test-cluster: setup ## The tests that need a Kubernetes cluster: the one that KUBECONFIG names (docs/cluster.md)
	$(BIN)/python -m pytest tests/cluster -m "not slow and not kubeflow" --force-enable-socket $(ARGS)

test-cluster-long: setup ## The longer proofs on that cluster: twenty faults, twenty suspensions, outages (over an hour)
	$(BIN)/python -m pytest tests/cluster -m slow --force-enable-socket $(ARGS)

test-kubeflow: setup ## Whole runs on the Kubeflow Pipelines of that cluster, some at once (docs/cluster.md)
	$(PYTEST) tests/cluster -m kubeflow --force-enable-socket $(ARGS)

coverage: ## `make test`, and a gate on how much of the code it ran; htmlcov/index.html shows what it did not
	$(MAKE) test ARGS="--cov --cov-report=html $(ARGS)"

parity: setup ## Compare the models, the flow, the plan and the texts with what Open-Sora 1.2 gave
	for set in reference variations gradients; do $(BIN)/python -m kinetoscope.parity "tests/golden/$$set"; done

wheel: $(UV) ## Build the wheel into dist/, with the locked tools
	rm -f dist/kinetoscope-*.whl
	.uv/bin/python -m hatchling build -t wheel -d dist

# Run elsewhere and without PYTHONPATH, so that what answers is the wheel.
test-wheel: wheel ## Use `kino` where only the wheel and its base dependencies are installed (build/bare)
	$(UV) venv --quiet --clear --python "$(PYTHON)" $(BARE)
	VIRTUAL_ENV="$$PWD/$(BARE)" $(UV) pip install --quiet --constraint requirements/default.lock \
		dist/kinetoscope-$(VERSION)-py3-none-any.whl
	cd $(BARE); unset PYTHONPATH; export KINO_WORKSPACE=workspace; \
	for words in --version --help recipes "config show tiny" "config show smoke" "config show open-sora-1.2" \
		"config schema" ls "models ls"; do echo "kino $$words"; bin/kino $$words > output; test -s output; done
	! $(BARE)/bin/python -c 'import torch' 2> /dev/null

wheelhouse: $(UV) ## Wheels for a GPU machine without a registry, of PYTHON=3.12, into .wheelhouse (docs/gpu.md)
	rm -rf .wheelhouse
	.uv/bin/python -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
		--require-hashes --implementation cp --python-version $(patsubst python%,%,$(notdir $(PYTHON))) \
		$(addprefix --platform ,manylinux_2_28_x86_64 manylinux_2_17_x86_64 manylinux2014_x86_64) \
		--dest .wheelhouse --requirement requirements/wheelhouse.lock

lint: setup ## Format and lint check, types, layers
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

check: lint coverage ## What a change must pass: lint, types, layers, tests, coverage

bench: setup ## Run all benchmarks, the models' on small cases (a few minutes)
	$(BIN)/python benchmarks/cli_startup.py
	$(BIN)/python benchmarks/config_errors.py
	$(BIN)/python benchmarks/buckets.py
	$(BIN)/python benchmarks/models.py --quick

images: image-control-plane image-trainer image-trainer-colossalai ## Build all images (docs/images.md)

# One of them: make image-trainer ENGINE=buildah IMAGE_PREFIX=registry.example.com/kinetoscope TAG=dev
image-%:
	$(ENGINE) build $(BUILD_FLAGS) --file components/images/$(patsubst %-colossalai,%,$*).Dockerfile \
		$(if $(findstring trainer,$*),--build-arg LOCK=$*) --build-arg VERSION=$(VERSION) \
		--build-arg REVISION=$$(git describe --always --abbrev=40 --dirty --exclude='*') --tag $(IMAGE_PREFIX)/$*:$(TAG) .

manifests: setup ## Write manifests/base and manifests/components from the chart
	PYTHONPATH=tests/deploy $(BIN)/python manifests/from_chart.py

lock: $(UV) ## Write all locks anew; pins stay where they fit (delete a lock to resolve it from nothing)
	$(LOCK) --output-file requirements/default.lock
	$(LOCK) --extra colossalai --constraint requirements/colossalai.constraints \
		--output-file requirements/colossalai.lock
	# The one version that differs: botocore (the server's S3 client) refuses python-dateutil 4.
	grep -oE '^[A-Za-z0-9._-]+==[^\]+' requirements/default.lock | grep -v '^python-dateutil==' \
		> .uv/control-plane.constraints
	$(LOCK_IMAGE) --extra server --constraint .uv/control-plane.constraints \
		--output-file requirements/control-plane.lock
	$(LOCK_IMAGE) --extra train --constraint requirements/default.lock \
		--output-file requirements/trainer.lock
	$(LOCK_IMAGE) --extra train --extra colossalai --constraint requirements/colossalai.lock \
		--output-file requirements/trainer-colossalai.lock
	$(COMPILE) requirements/installer.in --constraint requirements/default.lock \
		--output-file requirements/installer.lock
	$(COMPILE) --no-deps requirements/wheelhouse.in --constraint requirements/default.lock \
		--output-file requirements/wheelhouse.lock

clean: ## Remove environments, caches and build outputs (never the workspace: see `kino rm`)
	rm -rf .venv .venv-colossalai .uv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache \
		.hypothesis .coverage .coverage.* htmlcov dist build .wheelhouse
	find platform components tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(UV): requirements/installer.lock
	"$(INTERPRETER)" -m venv .uv
	.uv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/installer.lock
	touch $@

# A second `make setup` compares time stamps and does nothing.
%/.complete: $(UV) pyproject.toml
	test -x $*/bin/python || $(UV) venv --quiet --python "$(PYTHON)" $*
	VIRTUAL_ENV="$$PWD/$*" $(UV) pip sync --quiet --require-hashes $(filter %.lock,$^)
	VIRTUAL_ENV="$$PWD/$*" $(UV) pip install --quiet --no-deps --no-build-isolation --editable .
	find $*/lib -name '_*kinetoscope.pth' -exec "$(PYTHON)" -c '$(ASCII_PTH)' {} +
	touch $@

.venv/.complete: requirements/default.lock
.venv-colossalai/.complete: requirements/colossalai.lock
