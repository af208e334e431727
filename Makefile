# Everything runs in .venv, which `make` creates.
PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: quickstart quickstart-captioner test test-fast check bench clean

.venv/ready: setup.cfg pyproject.toml setup.py
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[test]'
	touch $@

quickstart: .venv/ready
	$(BIN)/keras-attention quickstart

quickstart-captioner: .venv/ready
	$(BIN)/keras-attention quickstart captioner

test: .venv/ready
	$(BIN)/python -m pytest

test-fast: .venv/ready
	$(BIN)/python -m pytest -m 'not slow'

check: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python -m pytest tests/test_architecture.py

bench: .venv/ready
	$(BIN)/python benchmarks/speed.py

clean:
	rm -rf .venv quickstart
