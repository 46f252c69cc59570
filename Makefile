# `make demo` and `make test` set everything up by themselves; PYTHON is any Python >= 3.10.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test check unit e2e clean

demo: $(READY)
	$(BIN)/understudy demo

test: check unit e2e

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

unit: $(READY)
	$(BIN)/pytest -m "not e2e"

e2e: $(READY)
	$(BIN)/pytest -m e2e

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv
