# make demo   trains the quickstart and prints its table
# make test   runs all tests but the campaigns
# make lint   ruff and mypy
# make proof  kills, power cuts and contention, in the sizes that CI runs

VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo test lint proof clean

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

$(VENV)/installed-lint: $(VENV)/installed-dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[lint]'
	touch $@

demo: $(VENV)/installed
	$(BIN)/ablate data sample data/sample
	$(BIN)/ablate run studies/quickstart.yaml --workers 2
	$(BIN)/ablate report --format md

test: $(VENV)/installed-dev
	$(PYTEST) -m "not proof"

lint: $(VENV)/installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

proof: $(VENV)/installed-dev
	$(PYTEST) -m proof
	$(BIN)/python -m tests.campaign ci

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
