# Every target does its own set-up: a virtual environment in .venv with pinned and hashed packages. Nothing but the program that is asked for
# writes to standard output (make itself does with -C, unless -s is given too).
PYTHON ?= python3
UV ?= uv
ARGS ?=

MAKEFLAGS += --no-print-directory
export PYTHON
# Pyright otherwise asks the network, at each run, whether there is a newer one.
export PYRIGHT_PYTHON_IGNORE_WARNINGS = 1

BIN = .venv/bin
# What talks to sockets, tasks and signals most is tested on both event loops; ARGS="--loop uvloop tests/..." runs any other test there.
ON_BOTH_LOOPS = tests/web tests/delivery tests/relay tests/cli/test_loops.py tests/cli/test_serve.py
# What knows how aiohttp keeps its connections, as server and as client.
AIOHTTPS_INSIDES = tests/web/test_takeover.py tests/web/test_heads.py tests/web/test_streams.py tests/upstreams/test_quick.py tests/upstreams/test_http.py
COMPILE = $(UV) --no-config pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--custom-compile-command "make requirements" $(ARGS)

.PHONY: help demo test oldest soak check bench docs clean requirements run-environment dev-environment bench-environment

help: ## say what each target does
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile
	@echo 'ARGS="..." is handed on to the program, PYTHON=... names the interpreter.'

demo: run-environment ## show three jobs on a scripted upstream, in the console and on a page
	@$(BIN)/relay demo $(ARGS)

test: dev-environment ## run the tests, with a real browser and real servers
	@scripts/system-parts
	@scripts/npm-packages
	@$(BIN)/python -m pytest $(ARGS)
	$(if $(ARGS),,@$(BIN)/python -m pytest --quiet --loop uvloop $(ON_BOTH_LOOPS))

oldest: dev-environment ## test what knows aiohttp's insides with the oldest aiohttp that is allowed
	@scripts/oldest-aiohttp
	@PYTHONPATH=.venv/oldest $(BIN)/python -c 'import aiohttp; print("with aiohttp", aiohttp.__version__)' >&2
	@PYTHONPATH=.venv/oldest $(BIN)/python -m pytest --quiet $(or $(ARGS),$(AIOHTTPS_INSIDES))

check: dev-environment ## lint, check types, and see that imports point one way
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy --strict
	@$(BIN)/pyright
	@$(BIN)/python -m pytest --quiet tests/architecture

soak: dev-environment ## kill a relay 200 times while jobs run and ten clients read, and compare what each was told
	@$(BIN)/python -m tests.faults $(ARGS)

bench: bench-environment ## measure the relay, part by part, beside nginx, the kernel and two libraries
	@scripts/system-parts bench
	@$(BIN)/python -m tests.bench $(ARGS)

docs: dev-environment ## build the documentation into docs/_build
	@$(BIN)/sphinx-build -W -q -b html docs docs/_build

requirements: ## pin what requirements/*.in ask for, with uv; ARGS=--upgrade moves every pin to the newest
	@command -v $(UV) >/dev/null || { echo "make requirements needs uv: install it, or name it with UV=/path/to/uv" >&2; exit 2; }
	@cd requirements && for set in run build dev bench; do $(COMPILE) $$set.in --output-file $$set.txt >/dev/null || exit 1; done
	@cd requirements && $(COMPILE) --no-deps oldest.in --output-file oldest.txt >/dev/null

clean: ## remove all that the other targets made
	@rm -rf .venv build dist docs/_build tests/interop/node_modules .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage .coverage.* htmlcov
	@find relay sinks web tests docs -name __pycache__ -type d -prune -exec rm -rf {} +

run-environment:
	@scripts/set-up run

dev-environment:
	@scripts/set-up dev

bench-environment:
	@scripts/set-up bench
