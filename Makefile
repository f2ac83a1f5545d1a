# The two commands of the README, and what they need. Nothing here is required to use aelab as a package.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check bench docs clean

demo: $(VENV)/.installed
	$(BIN)/aelab run experiments/quickstart.yml
	$(BIN)/aelab table experiments/quickstart.yml
	$(BIN)/aelab report experiments/quickstart.yml --out runs/quickstart/report.html

# Two workers with one thread each: threads of one worker waiting for the other's cost far more.
test: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

check: $(VENV)/.installed
	scripts/check

bench: $(VENV)/.installed
	$(BIN)/python benchmarks/throughput.py
	$(BIN)/python benchmarks/data.py
	$(BIN)/python benchmarks/startup.py

docs: $(VENV)/.installed
	$(BIN)/python -m pip --disable-pip-version-check -q install -c constraints.txt -e '.[docs]'
	$(BIN)/zensical build --clean

$(VENV)/.installed: pyproject.toml constraints.txt scripts/install
	PYTHON=$(PYTHON) VENV=$(VENV) scripts/install
	touch $@

clean:
	rm -rf $(VENV) site .pytest_cache .mypy_cache .ruff_cache
