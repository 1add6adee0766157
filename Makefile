# One entry for people and for CI. The two commands are `make demo` and `make test`.
#
# Both set the machine up first (scripts/setup.sh says what it installs, and is quick when nothing
# is missing). Checks run in the order of their cost, so that a slip is known early.

.PHONY: all setup room build install install-check demo test test-long fmt lint doc unit loom loom-long tidy \
  python python-long long compare wheel help

# The pinned toolchain, when setup has just installed it and the shell does not know yet.
export PATH := $(PATH):$(HOME)/.cargo/bin

CARGO ?= cargo
# Made by setup.
VENV := target/python-venv
PYTHON := $(VENV)/bin/python
MATURIN := VIRTUAL_ENV=$(VENV) $(VENV)/bin/maturin

all: build

setup: ## Install what this machine lacks
	@./scripts/setup.sh

build: setup ## Build the daemon and the load tool, optimised
	$(CARGO) build --release --locked -p chariotd -p chariot-bench

PREFIX ?= /usr/local
DESTDIR ?=

install: setup ## Install chariotd, dscli, chariot-bench, libchariot and headers (PREFIX=, DESTDIR=)
	$(CARGO) build --release --locked -p chariotd -p chariot-bench -p dscli -p chariot-capi
	@./scripts/install.sh "$(DESTDIR)" "$(PREFIX)"

demo: setup ## Serve a real workload for half a minute (TRACE=file for your own)
	@./scripts/demo.sh

test: room setup fmt tidy lint doc unit loom python install-check ## Run every check but the long ones
	@echo "make test: all checks passed"

test-long: test long loom-long python-long wheel ## Run the long ones too

room:
	@./scripts/room.sh

fmt:
	$(CARGO) fmt --all --check

lint:
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked

unit:
	$(CARGO) test --workspace --locked

# The models explore every interleaving of the shared-memory protocols. Another cfg means another
# build of everything below, hence a target directory of its own.
loom:
	RUSTFLAGS="--cfg loom" $(CARGO) test --locked --release -p chariot-shm --lib \
	  --target-dir target/loom model

# One preemption more, each for a minute at most.
loom-long:
	RUSTFLAGS="--cfg loom" $(CARGO) test --locked --release -p chariot-shm --lib \
	  --target-dir target/loom model -- --ignored

tidy:
	$(CARGO) test --locked -q -p chariot-tidy

# The SDK for Python against a real daemon, both as they were just built.
python: setup
	$(CARGO) build --locked -p chariotd -p chariot-npu-sim
	$(MATURIN) develop --locked --quiet --manifest-path wire/python/Cargo.toml
	CHARIOTD=target/debug/chariotd $(PYTHON) -m pytest -q wire/python/tests

# What is installed is what the tests have built: only the way there is looked at.
install-check: setup
	$(CARGO) build --locked -p chariotd -p chariot-bench -p dscli -p chariot-capi
	@./scripts/install-check.sh debug

python-long: setup
	$(CARGO) build --release --locked -p chariotd
	$(MATURIN) develop --locked --quiet --release --manifest-path wire/python/Cargo.toml
	CHARIOTD=target/release/chariotd $(PYTHON) -m pytest -q --long wire/python/tests/test_leaks.py

long:
	$(CARGO) test --workspace --locked --release -- --ignored

wheel: setup ## Build the wheel chariot-ds into target/wheels (WHEEL="3.9 3.10" for more)
	@./scripts/wheel.sh $(WHEEL)
	@./scripts/wheel-check.sh

# What it installs, it says. COMPARE=--smoke shows in a few minutes that it runs.
compare: setup ## Measure peers (Redis, memcached, Mooncake, openYuanrong) beside ours
	@python3 perf/compare/compare.py $(COMPARE)

help: ## Say what the targets do
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
