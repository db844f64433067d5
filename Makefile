# Two commands matter: `make demo` and `make test`. Both set up everything that they need.
.DELETE_ON_ERROR:
.PHONY: demo test check format clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

demo: $(STAMP)
	$(BIN)/p2pctl demo

test: $(STAMP)
	$(BIN)/pytest

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

clean:
	rm -rf $(VENV)
