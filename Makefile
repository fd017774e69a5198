# Racimo: `make demo` shows it, `make test` tests it. Both set up all they need on a fresh Debian 12 or 13 machine.

SHELL := /bin/bash
VENV := .venv
PYTHON := /usr/bin/python3
BIN := $(VENV)/bin
SEEDS := 1000
BESIDE := --numprocesses auto --maxprocesses 4 --dist loadfile
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

PACKAGES := python3-venv systemd systemd-container systemd-sysv dbus iproute2 kmod cpio zstd mtools syslinux syslinux-common \
	busybox-static qemu-system-x86 qemu-utils ipxe-qemu etcd-server etcd-client

.DEFAULT_GOAL := help
.PHONY: help demo lab lab-down test test-fast simulate check format lock setup image clean

help: ## Say what there is to make
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: setup image ## Three nodes, a guest, a live migration, a power cut: nothing lost
	$(SUDO) $(BIN)/racimo lab demo

lab: setup image ## Leave a three-node datacenter running (make lab-down ends it)
	$(SUDO) $(BIN)/racimo lab up

lab-down: setup ## End the lab, and leave nothing behind
	$(SUDO) $(BIN)/racimo lab down

test: setup image ## All tests, on real QEMU, etcd, systemd and a lab of real nodes
	$(SUDO) $(BIN)/pytest $(BESIDE) tests/unit tests/simulation; first=$$?; \
		$(SUDO) $(BIN)/pytest tests/contract tests/lab && exit $$first

test-fast: setup ## The tests that need neither root nor a lab
	$(BIN)/pytest $(BESIDE) -m "not lab and not root"

simulate: setup ## Random histories of the HA code (make simulate SEEDS=1000), others each day
	$(BIN)/racimo simulate --seeds $(SEEDS) --start $$(( $$(date +%s) / 86400 * 1000 ))

check: setup ## Style, types, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## Put the code into its usual form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

setup: $(VENV)/.ready

$(VENV)/.packages: Makefile
	@packaging/install-packages $(PACKAGES)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.ready: $(VENV)/.packages requirements.lock pyproject.toml
	@echo "Setting up the Python environment in $(VENV)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index -e .
	@touch $@

image: setup ## Build the lab's guest image, unless it is there
	@$(SUDO) $(BIN)/python -m racimo.lab.image

lock: $(VENV)/.packages ## Write requirements.lock anew from pyproject.toml
	$(BIN)/pip install --quiet 'pip-tools>=7.4,<8'
	$(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --extra dev --no-header \
		--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --output-file requirements.lock pyproject.toml

clean: ## Remove the environment and what tools left
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
