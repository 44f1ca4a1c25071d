# `make help` lists the targets. Every target works from a fresh checkout: it brings libtorch first where it is needed.
PYTHON ?= python3
CARGO ?= cargo
ARGS ?=
BUILT := $(or $(CARGO_TARGET_DIR),target)

# torch-sys would ask a Python for its PyTorch instead of `.libtorch`; cargo's [env] can set variables but not unset them.
unexport LIBTORCH_USE_PYTORCH
export CARGO_NET_RETRY ?= 5

.DEFAULT_GOAL := help
# Two heavy builds at once only wait for each other's lock, or for memory.
.NOTPARALLEL:
.PHONY: help setup build demo test lint audit bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s  %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: ## bring libtorch into .libtorch (once; LIBTORCH=<folder> links one of your own; CUDA=1 brings what GPUs need)
	@$(PYTHON) setup/libtorch.py $(if $(CUDA),--cuda)

build: setup ## build the release binaries
	$(CARGO) build --release --locked --workspace

demo: build ## serve, drift, retrain and migrate on this machine (ARGS="…" go to `migrator demo`)
	$(BUILT)/release/migrator demo $(ARGS)

# The end-to-end tests start the real binaries, which cargo does not build for another package's tests. Built together with the tests, or
# the crates below both would be built twice, with and without the features that only tests ask for.
test: setup ## run every test and the conformance suite; those that need a GPU say why they are skipped
	$(CARGO) build --locked --workspace --bins --tests
	$(CARGO) test --locked --workspace
	MIGRATOR_BIN=$(abspath $(BUILT))/debug/migrator $(PYTHON) tests/conformance/run.py

lint: setup ## check the format and the lints, warnings are errors
	@if $(CARGO) fmt --version >/dev/null 2>&1; then \
		echo '$(CARGO) fmt --all --check' && $(CARGO) fmt --all --check; \
	else \
		echo 'lint: format NOT checked: rustfmt is missing (rustup component add rustfmt)' >&2; \
	fi
	@if $(CARGO) clippy --version >/dev/null 2>&1; then \
		echo '$(CARGO) clippy' && $(CARGO) clippy --locked --workspace --all-targets -- -D warnings; \
	else \
		echo 'lint: lints NOT checked: clippy is missing (rustup component add clippy)' >&2; \
	fi

audit: ## check the dependencies' licences, sources and known vulnerabilities (brings cargo-deny)
	@CARGO=$(CARGO) $(PYTHON) setup/audit.py

bench: setup ## run the benchmarks (benches/README.md says what each number means)
	$(CARGO) bench --locked -p migrator-tests $(ARGS)

clean: ## remove what was built; .libtorch stays
	$(CARGO) clean
