# make book · make pdf · make test · make lab · make lint · make clean
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
TEST_READY := .venv/.test-ready

.PHONY: book pdf test lab lint format bench clean help

help:   ## this list
	@grep -hE '^[a-z]+: .*##|^[a-z]+:  +##' $(MAKEFILE_LIST) | sed 's/:[^#]*## /\t/' | expand -t 10

$(READY): requirements.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

$(TEST_READY): tests/requirements.txt $(READY)
	$(BIN)/python -m pip install --quiet --requirement tests/requirements.txt
	touch $@

book: $(READY)   ## run the studies on embedded data and build the site; prints where to open it
	$(BIN)/sslnb book

pdf: book   ## the whole book as one PDF; needs Chromium
	$(BIN)/sslnb pdf _build/sslnb.pdf

test: $(TEST_READY)   ## all tests; those that need real data or a browser say why they skip
	$(BIN)/python -m pytest -rs --numprocesses auto --dist loadfile

LAB_SETTINGS := .venv/share/jupyter/lab/settings/overrides.json

$(LAB_SETTINGS): $(READY)
	mkdir -p $(@D)
	$(BIN)/jupytext-config --settings-file $@ set-default-viewer markdown

lab: $(LAB_SETTINGS)   ## JupyterLab on the notebooks: a double click on a text notebook opens it as one
	$(BIN)/jupyter lab --notebook-dir=. notebooks/START.md

lint: $(TEST_READY)   ## ruff: rules and format; import-linter: layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

format: $(TEST_READY)   ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(TEST_READY)   ## measure every promised number again (minutes); updates benchmarks/results.json
	$(BIN)/python benchmarks/run.py

clean:   ## remove what was built; keeps .venv, data and the artifact cache
	rm -rf _build book/_executed book/_assets node_modules .pytest_cache .ruff_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
