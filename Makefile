# Everything a person does with this repository: `make` or `make help` lists it.

PYTHON ?= python3
DEMO_SECONDS ?= 150
WORKERS ?= 2
TORCH_BACKEND ?=
ARGS ?=

VENV := .venv
RUN := $(VENV)/bin/
READY := $(VENV)/.ready
PACKAGES := PYTHON=$(PYTHON) .ci/packages
UV := $(if $(shell uv --version 2>/dev/null),uv,build/uv/bin/uv)
NPM := node_modules/.bin/
CODE := service models telltale tests docs
TOGETHER := --dist loadfile
# What pytest ends with where ARGS choose no test.
NO_TESTS := 5

# Without bytecode on disk each start compiles torch once more: 5 s in place of 1.5, and the tests start hundreds of processes.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help setup check test thorough programs page-tools lint types map docs format demo bench bench-peers faults soak e2e kafka clean

help: ## Show what there is to make
	@echo 'make TARGET, where TARGET is one of:'
	@sed -nE 's/^([a-z0-9-]+):.* ## (.*)/  \1|\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F'|' '{printf "%-12s %s\n", $$1, $$2}'

setup: $(READY) node_modules/.ready ## Make .venv with everything in it (TORCH_BACKEND=cpu: the small build of torch)

check: $(READY) ## Style, types, and the quick tests that need Python alone (ARGS='-k name')
	$(RUN)ruff check $(CODE)
	$(RUN)ruff format --check $(CODE)
	$(RUN)mypy
	$(RUN)python -m pytest -m 'not programs and not slow' --numprocesses $(WORKERS) --dist worksteal $(ARGS)

test: programs $(READY) ## Run the tests that a change needs; on Debian, what they need is installed first (ARGS='-k name')
	$(RUN)python -m pytest -m 'not programs and not thorough' -n $(WORKERS) $(TOGETHER) $(ARGS) || [ $$? -eq $(NO_TESTS) ]
	$(RUN)python -m pytest -m 'programs and not thorough' -n $(WORKERS) $(TOGETHER) $(ARGS) || [ $$? -eq $(NO_TESTS) ]

# Those that need programs one after another: beside one another, brokers and killed workers starve each other.
thorough: programs $(READY) ## Run the tests that `make test` leaves out: killed again and again, or long
	$(RUN)python -m pytest -m 'thorough and not programs' -n $(WORKERS) $(TOGETHER) $(ARGS) || [ $$? -eq $(NO_TESTS) ]
	$(RUN)python -m pytest -m 'thorough and programs' $(ARGS) || [ $$? -eq $(NO_TESTS) ]

programs:
	@$(PACKAGES) python broker browser prometheus node

page-tools:
	@$(PACKAGES) node
	@$(MAKE) --no-print-directory node_modules/.ready

lint: $(READY) page-tools ## Check style and formatting, of the page too
	$(RUN)ruff check $(CODE)
	$(RUN)ruff format --check $(CODE)
	$(NPM)biome check --error-on-warnings

types: $(READY) page-tools ## Check types, of the page too
	$(RUN)mypy
	$(NPM)tsc --project .

map: $(READY) ## Draw which package imports which
	@$(RUN)python -m tests.imports

docs: $(READY) ## Build the documentation into build/site; a link that leads nowhere is an error
	NO_MKDOCS_2_WARNING=1 $(RUN)python -m mkdocs build --strict

format: $(READY) page-tools ## Rewrite the code in the form that lint expects
	$(RUN)ruff check --fix $(CODE)
	$(RUN)ruff format $(CODE)
	$(NPM)biome check --write

demo: $(READY) ## Watch a simulated plant for DEMO_SECONDS=150 seconds (KAFKA=1: through a broker of its own, or HOST:PORT)
	@$(if $(filter 1,$(KAFKA)),$(PACKAGES) java)
	@$(if $(filter 1,$(KAFKA)),deploy/kafka/with-broker )$(RUN)telltale demo --seconds $(DEMO_SECONDS) \
	  $(if $(KAFKA),--kafka $(patsubst 1,env,$(KAFKA)))

bench: $(READY) ## Measure throughput and latency on this machine (ARGS='--help')
	@$(PACKAGES) broker
	$(RUN)python -m tests.bench $(ARGS)

bench-peers: $(READY) | $(filter build/%,$(UV)) ## Measure other tools at the same work beside it (ARGS='--only quix --seconds 30')
	@$(PACKAGES) broker
	UV=$(UV) $(RUN)python -m tests.bench.peers $(ARGS)

faults: $(READY) ## Kill, stop and cut off workers and brokers for up to an hour, and compare every byte (ARGS='--small')
	@$(PACKAGES) java
	$(RUN)python -m tests.faults $(ARGS)

soak: $(READY) ## A fault every 15 s under load for 20 minutes; memory, threads and files must stay (ARGS='--minutes 20')
	@$(PACKAGES) java
	$(RUN)python -m tests.faults soak $(ARGS)

e2e: $(READY) ## Build the image, start docker-compose.yml, kill the service under load; needs a Docker engine with Compose
	TORCH_BACKEND=$(TORCH_BACKEND) $(RUN)python -m pytest -rP tests/e2e/deployment.py $(ARGS)

kafka: ## Run a Kafka broker on this machine, without Docker; Ctrl-C ends it (ARGS='--port 9092')
	@$(PACKAGES) java
	deploy/kafka/broker start $(ARGS)

clean: ## Remove what can be made again, .venv and downloaded jars included
	rm -rf $(VENV) node_modules build dist deploy/kafka/libs *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +

# Only when what is to be installed has changed.
$(READY): pyproject.toml constraints.txt | $(filter build/%,$(UV))
	@$(PACKAGES) python
	test -x $(RUN)python || $(UV) venv --python $(PYTHON) $(VENV)
	$(UV) pip install --python $(RUN)python --constraint constraints.txt --build-constraint constraints.txt \
	  $(if $(TORCH_BACKEND),--torch-backend $(TORCH_BACKEND)) --editable . --group dev
	touch $@

# What checks the page and the dashboards. Where npm is not there, the tests that need it are skipped and say so.
node_modules/.ready: package.json package-lock.json
	@if npm --version >/dev/null 2>&1; then npm ci && touch $@; \
	  else echo 'npm is missing: the tests of the page with axe-core and of the dashboards will be skipped'; fi

# In a folder of its own: a system's Python may refuse packages from outside (PEP 668), and uv needs nothing of it.
build/uv/bin/uv:
	@$(PACKAGES) python
	@if $(PYTHON) -m pip --version >/dev/null 2>&1; \
	  then $(PYTHON) -m pip install --quiet --disable-pip-version-check --target build/uv uv; \
	  else $(PYTHON) -m venv build/uv && build/uv/bin/python -m pip install --quiet --disable-pip-version-check uv; fi \
	  || { rm -rf build/uv; echo 'uv is missing and could not be installed: https://docs.astral.sh/uv/ tells how' >&2; exit 1; }
