# All targets run as root on Debian 12, each as the first command on a fresh machine.

# The distribution's python3: python3-bpfcc is built for it.
PYTHON  := /usr/bin/python3
VENV    := .venv
BIN     := $(VENV)/bin
SOURCES := meshd proxy tests bench examples fuzz soak
C_FILES  = $(shell find bpf fuzz tests -name '*.[ch]' -not -path '*/shim/*')

APT      := libnghttp2-14 python3-bpfcc python3-venv iproute2 nftables procps util-linux
APT_FUZZ := clang-14 libclang-rt-14-dev
APT_TEST := apache2-utils chromium clang-format-14 curl gcc golang-go libc6-dev nghttp2-client nghttp2-server nginx-light nodejs openjdk-17-jdk-headless openssl wrk
# kubectl, unless there is one: others' packages of it are newer than Debian's, and own the same file.
APT_TEST += $(if $(shell command -v kubectl),,kubernetes-client)
# The same of npm: others' packages of Node have it in themselves.
APT_TEST += $(if $(shell command -v npm),,npm)
# The same of the container runtimes.
APT_TEST += containernetworking-plugins $(if $(shell command -v containerd),,containerd) $(if $(shell command -v dockerd),,docker.io)

# Debian starts a web server that it installs; a policy of "no" for the time of the install prevents that.
define apt_install
	dpkg-query -W -f '$${Status}\n' $(1) 2>/dev/null | grep -c '^install ok installed$$' | grep -qx $(words $(1)) || { \
	  [ -e /usr/sbin/policy-rc.d ] || { printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d; \
	    chmod +x /usr/sbin/policy-rc.d; trap 'rm -f /usr/sbin/policy-rc.d' EXIT; }; \
	  apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $(1); }
endef

.PHONY: setup setup-test apt-test demo test lint format fuzz soak bench bench-readme image protos crds lock clean

setup: $(VENV)/.ready

$(VENV)/.ready: requirements.lock pyproject.toml
	@$(call apt_install,$(APT))
	$(PYTHON) -m venv --system-site-packages $(VENV)
	$(BIN)/pip install -qq --require-hashes -r requirements.lock
	$(BIN)/pip install -qq --no-deps --no-build-isolation -e .
	touch $@

# Node's packages for the tests.
NODE := tests/conformance/node

setup-test: setup apt-test $(NODE)/node_modules/.ready

apt-test: setup
	@$(call apt_install,$(APT_TEST))

$(NODE)/node_modules/.ready: $(NODE)/package.json $(NODE)/package-lock.json $(NODE)/.npmrc | apt-test
	npm ci --prefix $(NODE)
	touch $@

demo: setup
	@$(BIN)/python examples/canary/demo.py

# Most tests wait most of the time: three processes keep two cores at work.
PROCESSES ?= 3

test: setup-test
	$(BIN)/pytest -n $(PROCESSES) --no-loadscope-reorder --hypothesis-profile=ci \
	  --durations=15 --durations-min=5

lint: setup-test
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	clang-format-14 --dry-run --Werror $(C_FILES)

format: setup-test
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)
	clang-format-14 -i $(C_FILES)

# Each of the three fuzzers stops after so long. What they find is in build/fuzz.
FUZZ_SECONDS ?= 900
FUZZ_FLAGS   := -g -O1 -Wall -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -I bpf -I bpf/shim/include

fuzz: setup-test
	@$(call apt_install,$(APT_FUZZ))
	mkdir -p build/fuzz/corpus
	clang-14 $(FUZZ_FLAGS) -o build/fuzz/head fuzz/head_fuzzer.c
	build/fuzz/head -max_total_time=$(FUZZ_SECONDS) -max_len=3000 -dict=fuzz/http.dict -print_final_stats=1 \
	  -artifact_prefix=build/fuzz/ build/fuzz/corpus fuzz/corpus
	$(BIN)/python -m fuzz --seconds $(FUZZ_SECONDS) fuzz/corpus build/fuzz/corpus
	$(BIN)/python -m fuzz.hellos --seconds $(FUZZ_SECONDS)

# Thousands of connections that end in all ways. SEED=N repeats one, as far as time lets it.
SOAK_SECONDS ?= 300

soak: setup-test
	$(BIN)/python -m soak --seconds $(SOAK_SECONDS) $(if $(SEED),--seed $(SEED))

bench: setup-test
	mkdir -p build/bench
	$(BIN)/meshd bench -o json --output build/bench/report.json
	for form in md html svg; do \
	  $(BIN)/meshd bench --from build/bench/report.json -o $$form --output build/bench/report.$$form || exit; done

# The README's plot and tables, from the report that `make bench` has made.
bench-readme: setup-test
	$(BIN)/python -m bench.readme build/bench/report.json

# The image of agent and control plane, by the Docker engine that is there.
IMAGE ?= meshd:dev

image:
	docker build --tag $(IMAGE) .

# What a container runtime is spoken to in, from the .proto files.
protos: setup-test
	$(BIN)/python -m grpc_tools.protoc -I . --python_out=. --pyi_out=. meshd/workloads/cri.proto tests/support/kubelet.proto

# The schemas of our policy kinds and the page of their fields, from the structs that read them.
crds: setup
	$(BIN)/python -m meshd.kube.crds .

COMPILE := $(BIN)/pip-compile -q --strip-extras --generate-hashes --allow-unsafe --no-annotate --no-header \
	  --no-emit-index-url --no-emit-trusted-host --no-emit-find-links

# The image is for arm64, too: its packages have to be there without a compiler, but for what the Dockerfile compiles.
lock: setup apt-test
	$(BIN)/pip install -qq pip-tools==7.6.2
	$(COMPILE) --all-extras -o requirements.lock pyproject.toml
	$(COMPILE) --constraint requirements.lock -o requirements-image.lock pyproject.toml
	mkdir -p build/arm64
	sed '/^hdrhistogram==/,/[^\\]$$/d' requirements-image.lock >build/arm64/requirements.lock
	$(BIN)/pip download -q -d build/arm64 -r build/arm64/requirements.lock --no-deps --require-hashes --only-binary :all: \
	  --python-version 3.11 $(foreach tag,2014 _2_17 _2_26 _2_28,--platform manylinux$(tag)_aarch64)
	npm install --prefix $(NODE) --package-lock-only

clean:
	rm -rf $(VENV) $(NODE)/node_modules .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
	find $(SOURCES) -name __pycache__ -prune -exec rm -rf {} +
