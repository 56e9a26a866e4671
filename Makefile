# Every target does its own set-up: a virtual environment in .venv with pinned and hashed packages. Nothing but the program that is asked for
# writes to standard output (make itself does with -C, unless -s is given too).
PYTHON ?= python3
UV ?= uv
ARGS ?=

MAKEFLAGS += --no-print-directory
export PYTHON NEWEST
# Pyright otherwise asks the network, at each run, whether there is a newer one.
export PYRIGHT_PYTHON_IGNORE_WARNINGS = 1
# A run of the tests starts Python some hundred times. Where an environment forbids it to keep what it has compiled, each start compiles anew.
export PYTHONDONTWRITEBYTECODE =

BIN = .venv/bin
# Processes that tests run in. Some rooms stay together in one of them (tests/sharing.py), so many more gain little.
WORKERS ?= 2
# Rooms whose tests need no browser, no server and no package from npm.
UNIT = tests/architecture tests/attachments tests/audit tests/bus tests/config tests/jobs tests/journal tests/polling tests/queue tests/relay tests/sinks \
	tests/supervision tests/upstreams/reading/test_depth.py tests/upstreams/reading/test_reading.py tests/wire
# Rooms whose tests start browsers, proxies and benchmarks run no line that other rooms do not run as well.
COVERED = tests docs README.md --ignore=tests/bench --ignore=tests/browser --ignore=tests/faults --ignore=tests/interop --ignore=tests/proxies
FLOOR = 95
# What knows how aiohttp keeps its connections, as server and as client.
AIOHTTPS_INSIDES = tests/web/streaming/test_takeover.py tests/web/test_stream_lane.py tests/web/middleware/test_heads.py tests/web/middleware/test_cors.py tests/web/test_transports.py tests/web/test_doors.py tests/web/streaming/test_streams.py tests/upstreams/http/test_pooled_get.py tests/upstreams/http/test_client.py
# What runs under the newest Python as well. The architecture is the same under each of them.
NEWEST_TOO = $(filter-out tests/architecture,$(UNIT)) $(AIOHTTPS_INSIDES) tests/cli/test_loops.py tests/cli/test_starting.py tests/testing/conformance/test_fast_forward_loop.py
COMPILE = $(UV) --no-config pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--custom-compile-command "make requirements" $(ARGS)

.PHONY: help demo test unit cover oldest newest soak check bench compare docs clean requirements run-environment dev-environment bench-environment

help: ## say what each target does
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile
	@echo 'ARGS="..." is handed on to the program, PYTHON=... names the interpreter.'

demo: run-environment ## show three jobs on a scripted upstream, in the console and on a page
	@$(BIN)/relay demo $(ARGS)

test: dev-environment ## run the tests, with a real browser and real servers; ARGS="..." is handed to one plain pytest
	@scripts/system-parts
	@scripts/npm-packages
	@scripts/client-packages
	@$(BIN)/python -m pytest $(or $(ARGS),--quiet --numprocesses $(WORKERS) --loop both)

unit: dev-environment ## run the tests that need no browser, no server and no package from npm
	@$(BIN)/python -m pytest --quiet --numprocesses $(WORKERS) -m "not server" $(or $(ARGS),$(UNIT))

cover: dev-environment ## run the tests and print how many branches they cover; below 95 % is an error
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest --quiet --numprocesses $(WORKERS) $(or $(ARGS),$(COVERED))
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report --fail-under $(FLOOR)

oldest: dev-environment ## test what knows aiohttp's insides with the oldest aiohttp that is allowed
	@scripts/oldest-aiohttp
	@PYTHONPATH=.venv/oldest $(BIN)/python -c 'import aiohttp; print("with aiohttp", aiohttp.__version__)' >&2
	@PYTHONPATH=.venv/oldest $(BIN)/python -m pytest --quiet $(or $(ARGS),$(AIOHTTPS_INSIDES))

newest: dev-environment ## test most rooms under the newest Python that is found here; NEWEST=/path/to/python3 names one
	@scripts/newest-python
	@test ! -x .venv/newest/bin/python || { .venv/newest/bin/python -c 'import sys; print("with Python", sys.version.split()[0])' >&2 && \
		.venv/newest/bin/python -m pytest --quiet --numprocesses $(WORKERS) $(or $(ARGS),$(NEWEST_TOO)); }

check: dev-environment ## lint code and workflows, check types, and see that imports point one way
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy --strict
	@$(BIN)/pyright
	@scripts/verify-types
	@$(BIN)/zizmor --offline --quiet --no-progress --strict-collection --persona pedantic .github
	@$(BIN)/python -m pytest --quiet tests/architecture

soak: dev-environment ## kill, freeze and starve a relay 200 times while jobs run, and compare what each client received; ARGS="--nodes 3" for a cluster
	@$(BIN)/python -m tests.faults $(ARGS)

bench: bench-environment ## measure the relay, part by part, beside nginx, the kernel and two libraries
	@scripts/system-parts bench
	@$(BIN)/python -m tests.bench $(ARGS)

compare: dev-environment ## run the last release beside the code of now; it is an error if that costs more than 1.15 times as much
	@$(BIN)/python -m tests.bench --compare $(ARGS)

docs: dev-environment ## build the documentation into docs/_build and check its links; LINKS=outside follows those to other hosts, too
	@$(BIN)/sphinx-build -W -q -b html docs docs/_build
	@$(BIN)/python docs/links.py docs/_build
	@$(BIN)/sphinx-build -W -q -b linkcheck $(if $(LINKS),-t $(LINKS)) -d docs/_build/.doctrees docs docs/_build/links

requirements: ## pin what requirements/*.in ask for, with uv; ARGS=--upgrade moves every pin to the newest
	@command -v $(UV) >/dev/null || { echo "make requirements needs uv: install it, or name it with UV=/path/to/uv" >&2; exit 2; }
	@cd requirements && for set in run build dev bench release clients; do $(COMPILE) $$set.in --output-file $$set.txt >/dev/null || exit 1; done
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
