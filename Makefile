# Every target installs what it needs, including the virtual environment. `make help` lists the targets.

PYTHON ?= python3
# PyTorch is installed first, from its own index if one is given. On Linux the index of Python's packages has a build
# with the libraries of NVIDIA GPUs, which is several GB; CPU_INDEX is PyTorch's index of builds for CPUs.
TORCH ?= torch==2.13.0
CPU_INDEX := https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install
RUNTIME := $(VENV)/.runtime
DEVELOPMENT := $(VENV)/.development
BENCHMARKS := $(VENV)/.benchmarks
BROWSER := $(VENV)/.browser
# Separate environments: a Python with transformers 4.57, and one with llama.cpp, which is compiled for minutes.
VERSION_4 := $(VENV)-transformers-4
LLAMA_CPP := $(VENV)-llama-cpp
CLIENTS := $(VENV)-clients

# On small models two processes with one thread each are faster, and vary less, than one process with many threads.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false

.PHONY: help demo demo-full test exhaustive test-slow check bench crash ranks replies properties fuzz families storage
.PHONY: trust gpu newcomer browser serve clients push versions gguf reference clean
.DEFAULT_GOAL := help

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-16s %s\n", $$1, $$2 }'

demo: $(RUNTIME) ## train a small assistant from random weights, offline
	$(BIN)/tunesmith demo

demo-full: $(RUNTIME) ## the demo, then a reward model and PPO
	$(BIN)/tunesmith demo --full

test: $(DEVELOPMENT) ## run the test suite
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2 -m 'not slow and not processes and not exhaustive'

exhaustive: $(DEVELOPMENT) ## run all cases of what the test suite shows on one: every step, every call
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2 -m exhaustive

test-slow: $(DEVELOPMENT) ## run the slow tests: the data of the demo, and whole demos
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2 -m slow

check: $(DEVELOPMENT) ## run the linter, the format check and the type checker
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(BENCHMARKS) ## compare speed and memory of supervised fine-tuning with TRL
	$(BIN)/python -m benchmarks.sft

crash: $(DEVELOPMENT) ## kill runs and sampling at random moments, compare the bits
	$(ONE_THREAD) $(BIN)/python -m tests.campaigns.sigkill
	$(ONE_THREAD) $(BIN)/python -m tests.campaigns.sample_kills
	$(ONE_THREAD) $(BIN)/python -m tests.campaigns.benchmark_sigkill

ranks: $(DEVELOPMENT) ## kill each of several processes at every stage of a run, in checkpoints, and restart all
	$(ONE_THREAD) $(BIN)/python -m tests.campaigns.rank_ends
	$(ONE_THREAD) $(BIN)/python -m tests.campaigns.rank_kills
	$(ONE_THREAD) $(BIN)/python -m tests.campaigns.rank_restarts
	$(ONE_THREAD) $(BIN)/python -m pytest -m processes

replies: $(DEVELOPMENT) ## compare replies of batches of 1, 8 and 64, in any order, refilled or not
	$(ONE_THREAD) $(BIN)/python -m tests.campaigns.reply_equality

properties: $(DEVELOPMENT) ## test every prompt format on 10,000 random conversations
	$(ONE_THREAD) $(BIN)/python -m tests.campaigns.formats

fuzz: $(DEVELOPMENT) ## read thousands of damaged files and look for tracebacks
	$(ONE_THREAD) $(BIN)/python -m tests.campaigns.fuzz

families: $(DEVELOPMENT) ## compare tiny models of all families with transformers
	$(ONE_THREAD) $(BIN)/python -m tests.campaigns.families

storage: $(DEVELOPMENT) ## measure what fewer bits for weights, gradients and moments cost, on a real model
	$(ONE_THREAD) $(BIN)/python -m tests.campaigns.storage

trust: $(DEVELOPMENT) ## kill, disturb and damage runs in every way, and write docs/trust.md; needs gcc
	$(ONE_THREAD) $(BIN)/python -m tests.campaigns.trust

gpu: $(DEVELOPMENT) ## measure kernels, exact resume, memory and speed on a GPU, in ten minutes
	$(BIN)/python -m tests.campaigns.gpu

newcomer: $(DEVELOPMENT) ## init, check, train and chat on files of many forms, some of them wrong
	$(ONE_THREAD) $(BIN)/python -m tests.campaigns.newcomer

browser: $(BROWSER) ## use the chat and the pages of comparisons and runs in Chromium as a person would
	$(ONE_THREAD) $(BIN)/python -m tests.campaigns.compare_page
	$(ONE_THREAD) $(BIN)/python -m tests.campaigns.run_page
	$(ONE_THREAD) $(BIN)/python -m tests.campaigns.chat_page

serve: $(DEVELOPMENT) ## test the server: load, malformed requests, signals, kills, full disks, and OpenAPI schemas
	$(ONE_THREAD) $(BIN)/python -m tests.campaigns.serve_sockets
	$(ONE_THREAD) $(BIN)/python -m tests.campaigns.serve_schema
	$(ONE_THREAD) $(BIN)/python -m tests.campaigns.serve_load
	$(ONE_THREAD) $(BIN)/python -m tests.campaigns.serve_signals
	$(ONE_THREAD) $(BIN)/python -m tests.campaigns.serve_kills
	$(ONE_THREAD) $(BIN)/python -m tests.campaigns.serve_disk

clients: $(DEVELOPMENT) $(CLIENTS)/.installed ## use the server with LangChain, LiteLLM and npm clients
	$(ONE_THREAD) $(BIN)/python -m tests.campaigns.serve_clients \
		--python $(CLIENTS)/bin/python --node $(CLIENTS)/node

push: $(DEVELOPMENT) ## upload to a hub that fails in every way at every request
	$(ONE_THREAD) $(BIN)/python -m tests.campaigns.push_faults

versions: $(DEVELOPMENT) $(VERSION_4)/.installed ## compare exports in transformers 4.57 and 5
	$(ONE_THREAD) $(BIN)/python -m tests.campaigns.transformers_457 $(VERSION_4)/bin/python

gguf: $(DEVELOPMENT) $(LLAMA_CPP)/.installed ## compare exports with what llama.cpp reads from their GGUF files
	$(ONE_THREAD) $(BIN)/python -m tests.campaigns.gguf_files $(LLAMA_CPP)/bin/python

reference: $(RUNTIME) ## write docs/reference.md, all keys of a recipe
	$(BIN)/python -m tunesmith.recipe.reference docs/reference.md

clean: ## remove the virtual environment and caches, but no runs
	rm -rf $(VENV) $(VERSION_4) $(LLAMA_CPP) $(CLIENTS) build dist *.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find tunesmith tests -name __pycache__ -prune -exec rm -rf {} +

# A stamp file is written after a successful installation; without it the next call installs again.
$(RUNTIME): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'Tunesmith needs Python 3.11 or newer. Try: make PYTHON=python3.11' >&2; exit 1; }
	@echo 'Creating $(VENV), once. Step 1 of 2 installs PyTorch: 0.2 GB to download, or'
	@echo 'several GB with the libraries of NVIDIA GPUs. Without such a GPU, on Linux,'
	@echo 'stop with Ctrl-C and append TORCH_INDEX=$(CPU_INDEX)'
	$(PYTHON) -m venv $(VENV)
	$(PIP) $(if $(TORCH_INDEX),--index-url '$(TORCH_INDEX)') '$(TORCH)'
	@echo 'Step 2 of 2 installs transformers and the other packages: 0.2 GB to download.'
	$(PIP) --constraint constraints.txt --editable .
	@touch $@

$(DEVELOPMENT): $(RUNTIME)
	$(PIP) --constraint constraints.txt --editable '.[dev]'
	@touch $@

$(BENCHMARKS): $(RUNTIME)
	$(PIP) --constraint constraints.txt --editable '.[bench]'
	@touch $@

$(BROWSER): $(DEVELOPMENT)
	$(PIP) --constraint constraints.txt --editable '.[browser]'
	@touch $@

$(CLIENTS)/.installed: $(RUNTIME)
	$(PYTHON) -m venv $(CLIENTS)
	$(CLIENTS)/bin/python -m pip install langchain-openai==1.7.4 litellm==1.110.2
	npm install --prefix $(CLIENTS)/node openai@6.49.0 ai@6.0.326 @ai-sdk/openai-compatible@2.0.92
	@touch $@

$(VERSION_4)/.installed: $(RUNTIME)
	$(PYTHON) -m venv $(VERSION_4)
	$(VERSION_4)/bin/python -m pip install $(if $(TORCH_INDEX),--index-url '$(TORCH_INDEX)') '$(TORCH)'
	$(VERSION_4)/bin/python -m pip install 'transformers==4.57.*' safetensors
	@touch $@

$(LLAMA_CPP)/.installed: $(RUNTIME)
	$(PYTHON) -m venv $(LLAMA_CPP)
	$(LLAMA_CPP)/bin/python -m pip install llama-cpp-python
	@touch $@
