PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

types: ## mypy on the package as the wheel lays it out
	rm -rf build/types
	$(BIN)/python setup.py -q build_py --build-lib build/types 2>/dev/null
	cd build/types && ../../$(BIN)/mypy --config-file ../../pyproject.toml -p vprobe
.PHONY: types
