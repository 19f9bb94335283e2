# Tallystick. `make demo` and `make test` need no step before them.
PYTHON ?= python3
PY := .venv/bin/python

.PHONY: help demo install test test-clickhouse unit slow lint types web bench cluster clean system-packages requirements settings-docs

help:            ## this list
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

demo: install    ## start Tallystick on the embedded default with live traffic
	.venv/bin/tallystick demo

install: .venv/.installed    ## create .venv with pinned packages, and the web pages where there is Node
	@./tools/build-web --if-possible

.venv/.installed: pyproject.toml requirements-dev.txt
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

system-packages:    ## what the tests need beside Python packages
	@./tools/system-packages
	@./tools/kafka

# Some hundred processes are started; where Python is told to keep nothing compiled, each would compile all of it again.
test: install system-packages web    ## everything
	@$(PY) -m compileall -q src sdk/python/src bench
	$(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

unit: install    ## the fast ring, under 20 s
	$(PY) -m pytest -m "not slow and not engine"

test-clickhouse: install    ## the store's contract on the server or cluster that TALLYSTICK_TEST_CLICKHOUSE_URL names
	@test -n "$$TALLYSTICK_TEST_CLICKHOUSE_URL" || { echo "Set TALLYSTICK_TEST_CLICKHOUSE_URL=https://user:password@host:8443/default?cluster=name"; exit 2; }
	$(PY) -m pytest tests/store/test_http.py

lint: install    ## style and import directions
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/lint-imports

types: install    ## pyright, strict
	.venv/bin/pyright

web: .venv/.installed    ## the web pages, into src/tallystick/web_dist (Node 20 or newer)
	@./tools/build-web

bench: install system-packages    ## measure this machine; see docs/benchmarks.md
	$(PY) -m bench

cluster: install system-packages    ## a cluster on this machine, broken part by part under load, with its account
	$(PY) -m tests.cluster

requirements:    ## pin the newest versions that pyproject.toml allows
	.venv/bin/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-emit-index-url --no-emit-trusted-host --no-header --extra postgres --extra oidc --extra stripe --extra forecast --extra sources --extra dev --output-file requirements-dev.txt pyproject.toml
	.venv/bin/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-emit-index-url --no-emit-trusted-host --no-header --extra postgres --extra oidc --extra stripe --extra forecast --extra sources --constraint requirements-dev.txt --output-file requirements.txt pyproject.toml

settings-docs: install    ## write docs/reference/settings.md from the table of settings
	.venv/bin/tallystick settings-docs > docs/reference/settings.md

clean:    ## remove what the verbs above made
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis .import_linter_cache .bench .demo dist build
	rm -rf sdk/java/target src/tallystick/web_dist web/node_modules sdk/typescript/node_modules sdk/typescript/dist sdk/typescript/build
