# make run   start the Studio on http://127.0.0.1:8501 (PORT=8600 changes the port)
# make fuzz  search the readers of foreign files for holes (FUZZ_SECONDS=600 searches longer)
# make test  lint, type-check and test everything, the browser included (WORKERS=4 changes how many tests run at once)
PYTHON ?= python3
PORT ?= 8501
WORKERS ?= 2
FUZZ_SECONDS ?= 60
BIN := .venv/bin

.PHONY: run test bench fuzz lint format clean

run: .venv/installed
	$(BIN)/streamlit run app/main.py --server.port $(PORT)

test: .venv/installed-dev lint
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder

bench: .venv/installed
	$(BIN)/python benchmarks/bench.py
	$(BIN)/python benchmarks/training.py

fuzz: .venv/installed-dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[fuzz]'
	$(BIN)/python tests/fuzz/coverage_guided.py --seconds $(FUZZ_SECONDS)

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
