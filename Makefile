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

# One thread for each of the two test processes: threads that wait for each other are slow on a busy machine.
unit: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not e2e" -n 2 --quiet

e2e: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/pytest -m e2e -n 2 --quiet --durations 10

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv
