# Everything from a clean clone: `make demo`, `make test`. Each target installs what it needs first.
PYTHON ?= python3
VENV ?= .venv
PYTEST_ARGS ?=
WORKERS = -n auto --maxprocesses 4

.DEFAULT_GOAL := help
.PHONY: help setup demo test contracts board lint format notebooks clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-9s %s\n", $$1, $$2}' Makefile
	@echo "variables: PYTHON=$(PYTHON)  VENV=$(VENV)  PYTEST_ARGS=$(PYTEST_ARGS)"

setup: $(VENV)/.installed ## create the virtual environment and install pyrovae for development

demo: $(VENV)/.installed ## train a small VAE on scikit-learn's digits and report its log-likelihood
	$(VENV)/bin/pyrovae demo

test: $(VENV)/.installed ## run the tests; PYTEST_ARGS="-m 'not slow'" leaves out the slow ones
	$(VENV)/bin/python -m pytest $(WORKERS) $(PYTEST_ARGS)

contracts: $(VENV)/.installed ## compile every case of the contract of the compiled step (half an hour; needs a C++ compiler)
	$(VENV)/bin/python -m pytest tests/compiled/test_contract.py --inductor-all $(PYTEST_ARGS)

board: $(VENV)/.installed ## train and check every prior x likelihood x posterior of the board; `make test` takes all pairs
	$(VENV)/bin/python -m pytest tests/board/test_combinations.py --all-triples $(WORKERS) $(PYTEST_ARGS)

lint: $(VENV)/.installed ## check style, format and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(VENV)/.installed ## rewrite the code in the project's format
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

notebooks: $(VENV)/.installed ## make the .ipynb files from their scripts, notebooks/*.py, without outputs
	$(VENV)/bin/jupytext --quiet --to ipynb notebooks/*.py

clean: ## remove caches and build products; the environment, runs and data stay
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name '.venv*' -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

# One pip command for everything: torch and torchvision must be resolved together, or the second one replaces the first.
# No package index is named, on purpose: which build of torch to take (CPU only, a CUDA version) is for the user's own pip
# configuration to say. The stamp is touched last, so that an interrupted installation is done again.
$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "pyrovae needs Python 3.11 or newer, and '$(PYTHON)' is: $$($(PYTHON) --version 2>&1)" >&2; \
	  echo "Name a newer one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@test -x $(VENV)/bin/pip || { echo "creating $(VENV) with $$($(PYTHON) --version)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing pyrovae and what it needs into $(VENV) (PyTorch is large: the first time takes minutes)"
	@$(VENV)/bin/python -m pip install -q -e '.[dev]'
	@touch $@
	@echo "installed"
