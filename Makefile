# Every target makes what it needs, the virtual environment included; `make help` lists them.

PYTHON ?= python3
# Installed by itself and first: a range would let pip choose a build for an accelerator, which is several GB.
TORCH ?= torch==2.13.0

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
RUNTIME := $(VENV)/.runtime
DEVELOPMENT := $(VENV)/.development
BENCHMARKS := $(VENV)/.benchmarks

# Two processes with one thread each are faster and steadier on small models than one with many.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false

.PHONY: help demo demo-full test check bench crash properties fuzz clean
.DEFAULT_GOAL := help

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-12s %s\n", $$1, $$2 }'

demo: $(RUNTIME) ## train a small model from nothing, offline, in minutes
	$(BIN)/tunesmith demo

demo-full: $(RUNTIME) ## the same, then a reward model and PPO
	$(BIN)/tunesmith demo --full

test: $(DEVELOPMENT) ## the test suite
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2

check: $(DEVELOPMENT) ## linter, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(BENCHMARKS) ## side by side with other libraries: speed and memory
	$(BIN)/python -m benchmarks.sft

crash: $(DEVELOPMENT) ## kill training at random moments and compare what comes out
	$(ONE_THREAD) $(BIN)/python -m tests.campaigns.sigkill --method sft
	$(ONE_THREAD) $(BIN)/python -m tests.campaigns.sigkill --method dpo
	$(ONE_THREAD) $(BIN)/python -m tests.campaigns.sigkill --method ppo

properties: $(DEVELOPMENT) ## every prompt format with 10,000 random conversations full of control tokens
	$(ONE_THREAD) $(BIN)/python -m tests.campaigns.formats

fuzz: $(DEVELOPMENT) ## damaged files by the thousand: a clear error or a sound result, never a traceback
	$(ONE_THREAD) $(BIN)/python -m tests.campaigns.fuzz

clean: ## remove the virtual environment and caches; runs stay
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find tunesmith tests -name __pycache__ -prune -exec rm -rf {} +

# An environment of which half is missing has no stamp, and is completed by the next call.
$(RUNTIME): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Tunesmith needs Python 3.11 or newer; try make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	@echo 'installing into $(VENV); the first time takes some minutes'
	$(PYTHON) -m venv $(VENV)
	$(PIP) '$(TORCH)'
	$(PIP) --constraint constraints.txt --editable .
	@touch $@

$(DEVELOPMENT): $(RUNTIME)
	$(PIP) --constraint constraints.txt --editable '.[dev]'
	@touch $@

$(BENCHMARKS): $(RUNTIME)
	$(PIP) --constraint constraints.txt --editable '.[bench]'
	@touch $@
