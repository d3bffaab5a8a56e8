# Everything starts here. A machine needs Python 3.11 or newer with pip, and make; nothing else.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Another interpreter: make demo PYTHON=/path/to/python3.12
PYTHON ?=

# uv does not read pip's settings for folders of wheels; hand them on, or it may take another build of torch.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# What runs below finds the environment's own tools first.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help
help: ## Say what there is to make
	@echo "make TARGET, where TARGET is one of"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-10s %s\n", $$1, $$2}'

.PHONY: demo
demo: $(STAMP) ## Watch a network that does not learn, and be told why
	$(BIN)/gradientflow run examples/deep_sigmoid.py
	@echo "Then: make app, or gradientflow app, which opens a gradient flow and this run in the browser."

.PHONY: test
test: $(STAMP) ## Run the tests, in two processes of one thread each
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --max-worker-restart 2

.PHONY: cases
cases: $(STAMP) ## How often is the verdict right? Runs the labelled scripts (ten minutes; ONLY=case_001,case_002 for some)
	$(BIN)/python benchmarks/cases.py $(if $(ONLY),--only $(ONLY))

.PHONY: hostile
hostile: $(STAMP) ## Watch every hostile script, each in an interpreter of its own (half an hour; ONLY=names for some)
	$(BIN)/python -m tests.hostile $(if $(ONLY),--only $(ONLY))

.PHONY: mutants
mutants: $(STAMP) ## Change each threshold a little: does a test notice? (minutes; ONLY=src/gradientflow/depth/causes for some)
	$(BIN)/python scripts/mutants.py $(ONLY)

.PHONY: check
check: $(STAMP) check-web ## Format, lint, types, import contracts, and the examples in the docs; changes nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/check_docs.py

# The front end is built by Node; what it builds is committed, so that nothing else needs Node.
web/node_modules: web/package-lock.json
	cd web && npm ci --ignore-scripts --no-audit --no-fund
	@touch $@

.PHONY: web
web: $(STAMP) web/node_modules ## Build the app's page from web/ into the package (needs Node 20)
	$(BIN)/python scripts/wire_types.py
	cd web && npx tsc --noEmit && node build.mjs

.PHONY: check-web
check-web: $(STAMP)
	$(BIN)/python scripts/wire_types.py --check
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory web/node_modules && cd web && npx tsc --noEmit && node build.mjs --check; \
	else echo "no Node here: the app's page was not built anew and compared"; fi

.PHONY: screens
screens: $(STAMP) ## Take pictures of the app, dark and light and narrow, into build/screens (needs Chromium)
	$(BIN)/python scripts/screens.py

.PHONY: app
app: $(STAMP) ## Open a field in the browser, and the newest run of the demo where there is one
	$(BIN)/gradientflow app $(lastword $(sort $(wildcard runs/deep_sigmoid-*)))

.PHONY: format
format: $(STAMP) ## Format the code and mend what the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: venv
venv: $(STAMP) ## Only set up .venv

.PHONY: lock
lock: $(STAMP) ## Pin anew what requirements.in asks for
	$(BIN)/uv pip compile --quiet --upgrade --python-version 3.11 --no-header --no-annotate --no-emit-find-links \
		--no-emit-index-url requirements.in -o requirements.lock
	@# "2.13.0+cpu" names one build; the pin is for any build of that version.
	sed -i.bak 's/^\(torch==[0-9.]*\)+[a-z0-9]*$$/\1/' requirements.lock && rm requirements.lock.bak

.PHONY: clean
clean: ## Remove .venv, caches and builds; keep runs/
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment. The first Python that is new enough and can make one; a broken link counts as missing.
$(BIN)/python:
	@for python in $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python3.14 python); do \
		if $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			echo "Setting up $(VENV) with $$python ($$($$python --version))"; \
			exec $$python -m venv --clear $(VENV); \
		fi; \
	done; \
	echo "error: gradientflow needs Python 3.11 or newer with venv and pip; $(or $(PYTHON),what is on the PATH) is not that."; \
	echo "       python3 here: $$(python3 --version 2>&1 || true)"; \
	echo "       Install one (on Debian and Ubuntu: python3 and python3-venv), or name it: make PYTHON=/path/to/python3.12"; \
	exit 1

# torch goes first, with pip, at its pinned version; then the rest with uv, or with pip should uv be missing or fail.
$(STAMP): requirements.lock pyproject.toml | $(BIN)/python
	@echo "installing torch at its pin, then the rest of requirements.lock (a few hundred MB on a first set-up)"
	@$(BIN)/python -m pip install --quiet --constraint requirements.lock torch
	@$(BIN)/python -m pip install --quiet --constraint requirements.lock uv || echo "no uv: going on with pip"
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --requirement requirements.lock \
		|| { echo "uv did not manage: going on with pip"; $(BIN)/python -m pip install --quiet --requirement requirements.lock; }
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@
