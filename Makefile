PYTHON ?= python3
BIN := .venv/bin
CODE := app.py environment.py supported.py charts lab nets runs server tabs export benchmarks
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check
NPM_INSTALL := npm install --no-package-lock --no-audit --no-fund --ignore-scripts --loglevel error --prefix
LINT := .venv/lint/node_modules/.bin

.PHONY: help app install test test-long check types scripts bench checkpoints clean

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

app: .venv/installed  ## serve the page on port 7860, or PORT
	$(BIN)/python app.py

install: .venv/installed  ## make .venv and install the requirements

test: .venv/installed-dev .venv/browser .venv/web/installed .venv/oldest/installed  ## run the tests
	PYTHONWARNDEFAULTENCODING=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal

test-long: .venv/installed-dev .venv/browser .venv/web/installed .venv/oldest/installed  ## also run cross products, fuzzing and sweeps over seeds
	PYTHONWARNDEFAULTENCODING=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal -m ""

check: .venv/installed-dev types scripts  ## lint, format and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: .venv/installed-dev  ## types of the Python code alone
	$(BIN)/mypy $(CODE) tests

scripts: .venv/lint/installed  ## lint and types of the page's JavaScript alone
	@if [ -e $< ]; then set -ex; \
	  $(LINT)/eslint --config tabs/scripts/eslint.config.mjs --max-warnings 0 tabs/scripts/*.js; \
	  $(LINT)/tsc --project tabs/scripts; fi

bench: .venv/installed-dev .venv/browser  ## measure, as ratios against a baseline in the same run
	$(BIN)/python -m benchmarks

checkpoints: .venv/installed  ## export the graphs, train and write the bundles that are shipped
	$(BIN)/python -m export.export_graphs
	for lesson in $$($(BIN)/python -c 'import nets; print(*nets.TRAININGS)'); do \
	  $(BIN)/python -m export run $$lesson --out checkpoints || exit 1; done

clean:  ## remove .venv and caches
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .gradio
	find . -name __pycache__ -prune -exec rm -rf {} +

.venv/installed: requirements.txt
	@$(PYTHON) supported.py
	$(PYTHON) -m venv .venv
	$(INSTALL) -r requirements.txt
	touch $@

.venv/installed-dev: .venv/installed requirements-dev.txt
	$(INSTALL) -r requirements-dev.txt
	touch $@

# The browser tests use the system's Chromium, or else the one that Playwright downloads. Without one they are skipped, and
# the next `make test` tries again.
.venv/browser: .venv/installed-dev
	@($(BIN)/python -m tests.browser || $(BIN)/python -m playwright install chromium) \
	  && touch $@ || echo "No Chromium found: the browser tests will be skipped."

# Two more runtimes for the tests of the shipped nets: onnxruntime-web, and the oldest supported onnxruntime in a virtual
# environment of its own. Without one its tests are skipped, and the next `make test` tries again.
.venv/web/installed: tests/package.json | .venv/installed
	@mkdir -p $(@D) && cp $< $(@D)
	@command -v npm >/dev/null \
	  && $(NPM_INSTALL) $(@D) \
	  && touch $@ || echo "onnxruntime-web is not installed: its tests will be skipped."

.venv/oldest/installed: tests/oldest-onnxruntime.txt | .venv/installed
	@$(BIN)/python -m venv --without-pip $(@D)
	@$(BIN)/pip --python $(@D) install --quiet --disable-pip-version-check --only-binary :all: -r $< \
	  && touch $@ || echo "The old onnxruntime is not installed: its tests will be skipped."

# ESLint and TypeScript. Without them `make scripts` is skipped, except in CI, where it fails.
.venv/lint/installed: tabs/scripts/package.json
	@mkdir -p $(@D) && rm -f $@ && cp $< $(@D)
	@command -v npm >/dev/null \
	  && $(NPM_INSTALL) $(@D) \
	  && touch $@ || { echo "ESLint and TypeScript are not installed: the page's scripts are not checked."; [ -z "$$CI" ]; }
