# Everything runs from .venv; PYTHON chooses what makes it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCE ?=
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install demo test check format bench clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.installed ## Create or update .venv with everything

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

demo: install ## Start everything, ingest a few hundred pictures, search them (SOURCE=folder or URL list)
	@$(BIN)/python -m deploy.demo $(if $(SOURCE),"$(SOURCE)")

test: install ## Run all tests (ARGS="-k name" for some)
	$(BIN)/pytest -n auto --maxprocesses=4 --dist loadfile $(ARGS)

check: install ## Lint, format check, types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: install ## Format and fix what can be fixed
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench: install ## Run the benchmarks and print their table
	@$(BIN)/python -m benchmarks $(ARGS)

clean: ## Remove .venv and caches (the data stays)
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
