# Two commands for a newcomer: `make train` and `make test`. Both use the active environment, or make .venv.

PYTHON ?= python3
VENV := $(if $(VIRTUAL_ENV),$(VIRTUAL_ENV),$(if $(CONDA_PREFIX),$(CONDA_PREFIX),.venv))
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.snag_dist_installed

.PHONY: train test check

train: $(INSTALLED)
	$(BIN)/python jobs/train.py --recipe jobs/recipes/world.toml

test: $(INSTALLED)
	PATH="$(abspath $(BIN)):$$PATH" tools/test.sh

check: $(INSTALLED)
	PATH="$(abspath $(BIN)):$$PATH" tools/check.sh

$(INSTALLED): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -e '.[dev]'
	touch $@
