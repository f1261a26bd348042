# vprobe: `make help` says what there is. Everything is built into .venv; nothing is installed system-wide but the engines
# that `make test` needs, and those only where the user is root on Debian or Ubuntu.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
SOURCE := $(wildcard native/*.c native/*.h)
LINTED := $(SOURCE) $(wildcard tests/oracles/*.c)
RUN    ?= vprobe-run.json
REPORT ?= report.html
ORACLES ?= oracles.json
STUDY  ?= study.json
FUZZ_MINUTES ?= 60
PIP    := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input

LABS   := lab-amdv lab-cgroups lab-identities lab-vtx lab-xen

.PHONY: help bench test engines lab $(LABS) lint types wheel oracles study validate-engine validate-guest validate-kvm \
	validate-lifecycle validate-statistics fuzz clean

help: ## say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-22s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

bench: $(VENV)/.installed ## measure what this machine can run, and write report.html
	@hint=$$($(BIN)/vprobe envs --install-hints) && [ -z "$$hint" ] || \
		printf 'for more environments, paste this as root and run make bench again:\n  %s\n' "$$hint" >&2
	$(BIN)/vprobe bench --env auto --preset quick -o $(RUN) --report $(REPORT)

test: engines $(VENV)/.installed-dev lint types ## install what the tests need, then linters, types and tests
	$(BIN)/pytest -m "not validation"
	$(MAKE) --no-print-directory wheel

engines:
	@tests/install-engines

lab: ## prove the probe and the guests on virtual machines with AMD-V, VT-x, Xen and cgroup v2 (docs/labs.md): half an hour
$(LABS): ## the benches of one subject; BENCH=NAME one of them, RECORD=1 keeps what they read

lab $(LABS): $(VENV)/.installed-dev
	@tests/install-engines binutils qemu-system-x86
	PYTHONPATH=tests $(BIN)/python -m lab --keep build/labs $(if $(RECORD),--record) $(or $(BENCH),$(patsubst lab-%,%,$(filter-out lab,$@)))

lint: $(VENV)/.installed-dev ## ruff and clang-format
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/clang-format --dry-run --Werror $(LINTED)

types: $(VENV)/.installed-dev ## mypy, on the package as the wheel lays it out
	rm -rf build/types
	$(BIN)/python setup.py --quiet build_py --build-lib build/types 2>/dev/null
	cd build/types && ../../$(BIN)/mypy --config-file ../../pyproject.toml -p vprobe

wheel: $(VENV)/.installed-dev ## build the wheel and run the command from an empty environment, away from the source
	tests/check-wheel $(abspath $(BIN)/python)

oracles: $(VENV)/.installed-dev ## hold the workloads against the programs that people trust for them, into oracles.json: 18 minutes, alone
	@tests/install-oracles
	$(PIP) install --editable '.[oracles]'
	PYTHONPATH=tests $(BIN)/python -m oracles -o $(ORACLES) $(foreach row,$(ROW),--row '$(row)')

study: $(VENV)/.installed-dev ## measure the table of Felter et al. (ISPASS 2015), into study.json and docs/suites.md: eight minutes, alone
	$(BIN)/vprobe guest prepare --yes
	$(BIN)/vprobe bench --env bare,runc,kvm,qemu-tcg --preset felter --boots 10 -o $(STUDY)
	$(BIN)/python tests/validation/documents.py --study $(STUDY)

validate-engine: $(VENV)/.installed-dev ## prove the measuring engine on this machine: half an hour, alone
	$(BIN)/pytest -m validation tests/validation/test_engine.py tests/integration/test_microvm.py -s

validate-guest: $(VENV)/.installed-dev ## hold guests to all promises, reach one by SSH, and race virtme-ng: ten minutes, alone
	$(BIN)/pytest -m validation tests/integration tests/validation/test_ssh_guest.py
	$(PIP) install virtme-ng
	$(BIN)/python tests/validation/guest_start.py

validate-kvm: $(VENV)/.installed-dev ## prove Linux guests on KVM, on a machine with VT-x or AMD-V, to validate-kvm.json: ten minutes
	$(BIN)/vprobe guest prepare --yes
	$(PIP) install virtme-ng
	$(BIN)/python tests/validation/kvm_guest.py

validate-lifecycle: $(VENV)/.installed-dev ## prove the start times of containers against hyperfine: a quarter of an hour, alone
	$(BIN)/pytest -m validation tests/validation/test_lifecycle.py -s

validate-statistics: $(VENV)/.installed-dev ## prove the statistics on recorded noise, and fill in docs/statistics.md: a quarter of an hour
	$(BIN)/python tests/validation/figures.py --write

fuzz: $(VENV)/.installed-dev ## fuzz every parser of the probe for an hour in all, at the lowest priority (FUZZ_MINUTES)
	$(PIP) install --editable '.[fuzz]'
	$(BIN)/python tests/fuzz/run.py --minutes $(FUZZ_MINUTES)

.PHONY: validate-sessions
validate-sessions: $(VENV)/.installed-dev ## prove the gate in real sessions beside other tools: two and a half hours, alone; goes on where it was stopped
	cd tests && ../$(BIN)/python -m validation.live $(or $(PROOF),all) $(if $(SECONDS_AT_MOST),--seconds $(SECONDS_AT_MOST))
	cd tests && ../$(BIN)/python -m validation.live figures --write

clean: ## remove everything that was built
	rm -rf $(VENV) build dist *.egg-info vprobe/*.so .mypy_cache .ruff_cache .hypothesis

# pip of a fresh Debian 12 builds with isolation, so that setuptools of the distribution does not matter.
$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml setup.py $(SOURCE) | $(VENV)/bin/python
	$(PIP) install --editable .
	touch $@

$(VENV)/.installed-dev: pyproject.toml setup.py $(SOURCE) | $(VENV)/bin/python
	$(PIP) install --editable '.[dev]'
	touch $@ $(VENV)/.installed
