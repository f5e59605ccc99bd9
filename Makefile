# Everything runs from .venv; PYTHON chooses what makes it.
# Where this is set, each of hundreds of processes compiles everything anew.
unexport PYTHONDONTWRITEBYTECODE
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCE ?=
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install demo test test-system check format bench bench-full performance metrics screenshots faults eval train clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.installed ## Create or update .venv with everything

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

demo: install ## Start everything, ingest a few hundred pictures, search them (SOURCE=folder or URL list)
	@$(BIN)/python -m examples.demo $(if $(SOURCE),"$(SOURCE)")

# Not by the number of tests a file: the longest files, which wait most, have few and would come last.
test: install ## Run all tests (ARGS="-k name" for some)
	@$(BIN)/python -m tests.browser.chromium
	$(BIN)/pytest -n auto --maxprocesses=4 --dist loadfile --no-loadscope-reorder $(ARGS)

test-system: install ## Run the tests that need programs of the system, nginx say; installs those first
	@$(BIN)/python -m tests.system.programs
	$(BIN)/pytest -m system $(ARGS)

check: install ## Lint, format check, types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: install ## Format and fix what can be fixed
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench: install ## Run the fast benchmarks, print their tables, compare with the recorded ones (ARGS="--only load")
	@$(BIN)/python -m benchmarks $(ARGS)

bench-full: install ## Run the long benchmarks too (hours)
	@$(BIN)/python -m benchmarks --full $(ARGS)

performance: install ## Make docs/performance.md and its tables anew from the recorded benchmarks
	@$(BIN)/python -m benchmarks.report

metrics: install ## Make docs/metrics.md anew from the metrics' definitions
	@$(BIN)/python -m tests.metrics_page

screenshots: install ## Make the README's pictures of the page anew
	@$(BIN)/python -m tests.browser.readme_pictures

faults: install ## Break a running stack in every way, many times (an hour and a half; ARGS="--only sync --seed 1")
	$(BIN)/python -m tests.faults $(ARGS)

eval: install ## Measure how well a model finds pictures (MODEL=starter, a folder or a hub id)
	$(BIN)/python -m training fetch
	$(BIN)/python -m training eval $(or $(MODEL),starter) $(ARGS)

# glibc gives freed memory back to the kernel so eagerly that a training step takes a third longer.
train: install ## Train the starter model anew, or go on (two CPU hours; see training/README.md)
	$(BIN)/python -m training fetch
	test -f data/training/items.json || $(BIN)/python -m training build
	MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=1073741824 $(BIN)/python -m training train $(ARGS)
	$(BIN)/python -m training export shared/embedding/starter

clean: ## Remove .venv and caches (the data stays)
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
