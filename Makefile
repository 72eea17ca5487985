# All targets run as root on Debian 12, each as the first command on a fresh machine.

# The distribution's python3: python3-bpfcc is built for it.
PYTHON  := /usr/bin/python3
VENV    := .venv
BIN     := $(VENV)/bin
SOURCES := meshd proxy tests bench examples
C_FILES  = $(shell find bpf tests -name '*.[ch]' -not -path '*/shim/*')

APT      := python3-bpfcc python3-venv iproute2 nftables procps util-linux
APT_TEST := clang-format-14 curl openjdk-17-jdk-headless gcc libc6-dev nginx-light nodejs wrk

# Debian starts a web server that it installs; a policy of "no" for the time of the install prevents that.
define apt_install
	dpkg-query -W -f '$${Status}\n' $(1) 2>/dev/null | grep -c '^install ok installed$$' | grep -qx $(words $(1)) || { \
	  [ -e /usr/sbin/policy-rc.d ] || { printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d; \
	    chmod +x /usr/sbin/policy-rc.d; trap 'rm -f /usr/sbin/policy-rc.d' EXIT; }; \
	  apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $(1); }
endef

.PHONY: setup setup-test demo test lint format bench lock clean

setup: $(VENV)/.ready

$(VENV)/.ready: requirements.lock pyproject.toml
	@$(call apt_install,$(APT))
	$(PYTHON) -m venv --system-site-packages $(VENV)
	$(BIN)/pip install -qq --require-hashes -r requirements.lock
	$(BIN)/pip install -qq --no-deps --no-build-isolation -e .
	touch $@

setup-test: setup
	@$(call apt_install,$(APT_TEST))

demo: setup
	@$(BIN)/python examples/canary/demo.py

test: setup-test
	$(BIN)/pytest

lint: setup-test
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	clang-format-14 --dry-run --Werror $(C_FILES)

format: setup-test
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)
	clang-format-14 -i $(C_FILES)

bench: setup-test
	$(BIN)/python -m bench.slow_path
	$(BIN)/python -m bench.fast_path

lock: setup
	$(BIN)/pip install -qq pip-tools==7.6.2
	$(BIN)/pip-compile -q --strip-extras --all-extras --generate-hashes --allow-unsafe --no-annotate --no-header \
	  --no-emit-index-url --no-emit-trusted-host --no-emit-find-links -o requirements.lock pyproject.toml

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
	find $(SOURCES) -name __pycache__ -prune -exec rm -rf {} +
