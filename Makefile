PYTHON ?= python3
BIN := .venv/bin
CODE := app.py environment.py supported.py charts lab nets runs server tabs export benchmarks
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check

.PHONY: help app install test test-long check types bench checkpoints clean

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

app: .venv/installed  ## serve the page on port 7860, or PORT
	$(BIN)/python app.py

install: .venv/installed  ## make .venv and install the requirements

test: .venv/installed-dev .venv/browser .venv/web/installed .venv/oldest/installed  ## run the tests
	PYTHONWARNDEFAULTENCODING=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal

test-long: .venv/installed-dev .venv/browser .venv/web/installed .venv/oldest/installed  ## also run cross products, fuzzing and sweeps over seeds
	PYTHONWARNDEFAULTENCODING=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal -m ""

check: .venv/installed-dev types  ## lint, format and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: .venv/installed-dev
	$(BIN)/mypy $(CODE) tests

bench: .venv/installed-dev .venv/browser  ## measure, as ratios against a baseline in the same run
	$(BIN)/python -m benchmarks

checkpoints: .venv/installed  ## export the graphs, train and write the bundles that are shipped
	$(BIN)/python -m export.export_graphs
	for lesson in $$($(BIN)/python -c 'import nets; print(*nets.TRAININGS)'); do \
	  $(BIN)/python -m export run $$lesson --out checkpoints || exit 1; done

clean:  ## remove .venv and caches
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache

.venv/installed: requirements.txt
	@$(PYTHON) supported.py
	$(PYTHON) -m venv .venv
	$(INSTALL) -r requirements.txt
	touch $@

.venv/installed-dev: .venv/installed requirements-dev.txt
	$(INSTALL) -r requirements-dev.txt
	touch $@

# The browser tests take a Chromium of the system first; only without one is Playwright's own fetched.
# Where that cannot be had either, they are skipped and say so.
.venv/browser: .venv/installed-dev
	@$(BIN)/python -m tests.browser || $(BIN)/python -m playwright install chromium \
	  || echo "No Chromium could be had: the browser tests will be skipped."
	@touch $@

# Two more runtimes that the shipped nets are tried on: the browser's, and the oldest onnxruntime, which gets an
# environment of its own. Where one cannot be had, its tests are skipped and say so, and the next `make test` asks again.
.venv/web/installed: tests/package.json | .venv/installed
	@mkdir -p $(@D) && cp $< $(@D)
	@command -v npm >/dev/null \
	  && npm install --prefix $(@D) --no-package-lock --no-audit --no-fund --ignore-scripts --loglevel error \
	  && touch $@ || echo "No onnxruntime-web could be had: the tests with it will be skipped."

.venv/oldest/installed: tests/oldest-onnxruntime.txt | .venv/installed
	@$(BIN)/python -m venv --without-pip $(@D)
	@$(BIN)/pip --python $(@D) install --quiet --disable-pip-version-check --only-binary :all: -r $< \
	  && touch $@ || echo "No old onnxruntime could be had: the tests with it will be skipped."
