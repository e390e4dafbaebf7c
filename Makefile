# Two commands matter: `make demo` and `make test`. Both set everything up in .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TOOLS := $(VENV)/.tools-ready

.PHONY: demo gallery test check format bench clean help

help: ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

$(READY): requirements.txt constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	# torch first and alone, so that nothing after it replaces the build that suits this machine
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -r requirements.txt
	touch $@

$(TOOLS): $(READY) requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -r requirements-dev.txt
	touch $@

demo: $(READY) ## animate something real; writes demo.mp4 and demo_sheet.png
	$(BIN)/python -m animator_core demo --output demo.mp4

gallery: $(READY) ## animate many scenes, parts on and off; writes gallery/
	$(BIN)/python -m animator_core gallery --output gallery

test: $(TOOLS) ## every test that needs no GPU and no ComfyUI checkout
	$(BIN)/python -m pytest --cov --cov-report=term

check: $(TOOLS) ## format, lint, types, import rules, registry metadata
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	COMFY_NO_TELEMETRY=1 $(BIN)/comfy --skip-prompt --no-enable-telemetry node validate

format: $(TOOLS) ## rewrite the sources in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY) ## print every benchmark's ratios
	for file in benchmarks/*.py; do $(BIN)/python $$file || exit 1; done

clean: ## remove the environment and all caches
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .coverage .import_linter_cache
