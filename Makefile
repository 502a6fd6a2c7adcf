# make run   start the Studio on http://127.0.0.1:8501 (PORT=8600 changes the port)
# make test  lint, type-check and test everything, the browser included
PYTHON ?= python3
PORT ?= 8501
BIN := .venv/bin

.PHONY: run test bench lint format clean

run: .venv/installed
	$(BIN)/streamlit run app/main.py --server.port $(PORT)

test: .venv/installed-dev lint
	$(BIN)/python -m pytest

bench: .venv/installed
	$(BIN)/python benchmarks/bench.py
	$(BIN)/python benchmarks/training.py

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv build dist .pytest_cache .hypothesis .ruff_cache .mypy_cache

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "CIST Studio needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml | $(BIN)/python
	@echo "Installing into .venv: a few minutes the first time, about 5 GB with the CUDA libraries that torch brings"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[studio]'
	touch $@

.venv/installed-dev: pyproject.toml | $(BIN)/python
	@echo "Installing into .venv: a few minutes the first time, about 5 GB with the CUDA libraries that torch brings"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@ .venv/installed
