# Two commands matter: `make demo` and `make test`. Both set up everything that they need. `make bench` measures, as root.
.DELETE_ON_ERROR:
.PHONY: demo test bench bench-full check format clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BENCH_STAMP := $(VENV)/.bench-installed

demo: $(STAMP)
	$(BIN)/p2pctl demo

test: $(STAMP)
	$(BIN)/pytest

# In under ten minutes; `bench-full` takes an hour and a half. Both write bench/results.
bench: $(BENCH_STAMP)
	$(BIN)/python -m bench short

bench-full: $(BENCH_STAMP)
	$(BIN)/python -m bench full

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(STAMP): pyproject.toml constraints.txt
	PYTHON="$(PYTHON)" VENV="$(VENV)" sh .ci/make-venv
	touch $@

$(BENCH_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	touch $@

clean:
	rm -rf $(VENV)
