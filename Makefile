# From a fresh clone with Python 3.11 or newer and nothing else: `make env`, then `make demo` or `make test`.
SHELL := bash
PY := .venv/bin/python
STAMP := .venv/.installed
EXTRAS := md,test,lint,docs,bench

.DEFAULT_GOAL := help
.PHONY: help env demo test lint docs bench clean

help: ## this list
	@grep -E '^[a-z]+:.*## ' Makefile | sed -E 's/^([a-z]+):.*## (.*)/  make \1	\2/' | expand -t 16

env: $(STAMP) ## create .venv with everything that demo, test, lint, docs and bench need

demo: $(STAMP) ## bundled particles -> reconstruction -> report
	.venv/bin/cryoloom demo

# Two threads a library: torch, BLAS and numba would each start one per core and fight over them.
test: export OMP_NUM_THREADS ?= 2
test: export NUMBA_NUM_THREADS ?= 2
test: $(STAMP) ## every test that this machine has the data for
	$(PY) -m pytest -q

lint: $(STAMP) ## style, types and the floors that imports respect
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/pyright
	.venv/bin/lint-imports --no-logo

docs: export NO_MKDOCS_2_WARNING := 1
docs: $(STAMP) ## the documentation, into site/
	$(PY) -m mkdocs build --strict --quiet
	@echo "documentation: site/index.html"

bench: $(STAMP) ## time the main job of a reconstruction on this machine
	$(PY) benchmarks/main_job.py

clean: ## remove what was built; .venv stays (delete it by hand to start afresh)
	rm -rf site dist build demo .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt
	@if ! $(PY) -c 'import pip' 2>/dev/null; then \
	  for candidate in $(PYTHON) python3.13 python3.12 python3.11 python3; do \
	    if $$candidate -c 'import sys, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; \
	    then found=$$candidate; break; fi; \
	  done; \
	  if [ -z "$${found:-}" ]; then \
	    echo "cryoloom needs Python 3.11, 3.12 or 3.13 with the venv module: install one, or name it: make env PYTHON=/path/to/python" >&2; \
	    exit 1; \
	  fi; \
	  echo "creating .venv with $$($$found --version)"; \
	  $$found -m venv --clear .venv; \
	fi
	@echo "installing cryoloom and what it stands on into .venv (a minute or two the first time)"
	@set -o pipefail; tty=0; if [ -t 1 ]; then tty=1; fi; \
	if ! $(PY) -m pip install --disable-pip-version-check --progress-bar off -c constraints.txt -e '.[$(EXTRAS)]' 2>&1 \
	  | tee .venv/install.log \
	  | awk -v all="$$(grep -c == constraints.txt)" -v tty="$$tty" ' \
	      /^(Collecting|Requirement already satisfied:?) / { name = /^Coll/ ? $$2 : $$4; sub(/[<>=!~;\[(].*/, "", name); \
	        if (!(name in seen) && name !~ /^(file|cryoloom)/) { seen[name]; n++; say(sprintf("  %d of about %d: %s", n, all, name), n % 20 == 0) } } \
	      /^Installing collected/ { say("  unpacking", 1) } \
	      function say(text, mark) { if (tty) printf "\r\033[K%s", text; else if (mark) print text; fflush() } \
	      END { if (tty) printf "\r\033[K" }'; \
	then echo "installing failed; the end of .venv/install.log:" >&2; tail -n 15 .venv/install.log >&2; exit 1; fi
	@touch $@
	@echo "ready: .venv/bin/cryoloom"
