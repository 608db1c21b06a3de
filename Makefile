# SPDX-License-Identifier: GPL-2.0-or-later
# Every target brings its own set-up: on a fresh Debian 12, as root, `make demo` or `make test` is the first command.
.DEFAULT_GOAL := help
.PHONY: help venv lab machine demo test check format run bench sim chaos lock
.NOTPARALLEL:

PYTHON := .venv/bin/python
BENCHES := vip status memory sim carry cold sip

help:
	@echo "make demo          two sites in network namespaces; things are broken, Standpipe mends them (root)"
	@echo "make test          every test, at most 10 minutes (root); ARGS='tests/core -k name' for some"
	@echo "make check         ruff, mypy, import rules"
	@echo "make run           the agent on this machine, watching only"
	@echo "make bench         measure against the peers; make bench-NAME for one of: $(BENCHES)"
	@echo "make sim SEED=n    replay one seed of the simulator"
	@echo "make chaos SEED=n  overlapping random faults on real packets, and a judge (root); ARGS='--nodes 3 --family 6'"
	@echo "make venv          .venv with .venv/bin/standpipe"
	@echo "make lock          remake requirements*.txt from pyproject.toml"
	@echo "make format        let ruff lay the code out"

root-%:
	@setup/machine.sh root $*

machine:
	@setup/machine.sh packages

venv:
	@setup/machine.sh venv

lab:
	@setup/machine.sh lab

demo: root-demo machine venv lab
	@exec $(PYTHON) -m tests.guard --within 600 tests.lab.demo

test: root-test machine venv lab
	@exec $(PYTHON) -m tests.guard --within 1200 pytest $(ARGS)

check: venv
	@.venv/bin/ruff check --quiet .
	@.venv/bin/ruff format --quiet --check .
	@.venv/bin/mypy --no-error-summary
	@.venv/bin/lint-imports --no-logo >build/imports.txt || { cat build/imports.txt; exit 1; }
	@echo "check: style, types and import rules hold"

format: venv
	@.venv/bin/ruff check --quiet --fix .
	@.venv/bin/ruff format --quiet .

run: venv
	@mkdir -p build/run
	@exec .venv/bin/standpipe run --watch-only --state-dir build/run --run-dir build/run

bench: $(addprefix bench-,$(BENCHES))

bench-%: root-bench machine venv lab
	@$(PYTHON) -m tests.guard --within 1800 tests.bench.$* $(ARGS)

sim: venv
	@$(PYTHON) -m tests.sim $(if $(SEED),--seed $(SEED) --trace)

chaos: root-chaos machine venv lab
	@exec $(PYTHON) -m tests.guard --within 3600 tests.lab.chaos $(if $(SEED),--seed $(SEED)) $(ARGS)

lock:
	@setup/lock.sh
