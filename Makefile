# Darkbloom in C. `make help` lists the targets.
# Every target does its own set-up: system packages, pinned sources, models. The first run takes about eight minutes.
SHELL := /bin/bash
JOBS ?= $(shell getconf _NPROCESSORS_ONLN)
BUILD ?= build/release
PREFIX ?= /usr/local
DESTDIR ?=
FUZZ_SECONDS ?= 300
FUZZ_SEED ?= 0
SOAK_SECONDS ?= 1800
export ASK ?= What is the capital of France?

export CCACHE_BASEDIR := $(CURDIR)
export CCACHE_NOHASHDIR := 1

CONFIGURE = cmake -S . -B $(1) -G Ninja $(2) >$(1).log 2>&1 || { cat $(1).log >&2; exit 1; }

.PHONY: all setup deps demo test bench bench-engine bench-routing bench-scale bench-store check-asan check-tsan check-clang check-macos fuzz format lint install clean help soak

all: deps ## build both programs into build/release/bin
	@mkdir -p build
	@$(call CONFIGURE,$(BUILD),-DCMAKE_BUILD_TYPE=Release)
	@cmake --build $(BUILD) -j $(JOBS) --target programs

setup: ## install the system packages that are missing (Debian, Ubuntu or macOS)
	@scripts/setup.sh

deps: setup ## fetch, verify and build the pinned sources, fetch the models
	@deps/build.sh all

demo: all ## watch a real model answer over the whole private path (ASK="...", DEMO_ONCE=1)
	@scripts/demo.sh $(BUILD)/bin

test: deps ## run every test
	@scripts/test-setup.sh
	@tests/run

bench: all ## print every figure of tests/bench, merged into build/bench/results.json
	@scripts/test-setup.sh
	@cmake --build $(BUILD) -j $(JOBS) --target benches
	@tests/bench/run $(BUILD)

bench-engine: all ## compare the engine with llama-server of the same source
	@scripts/test-setup.sh
	@deps/build.sh server
	@deps/build.sh extra
	@cmake --build $(BUILD) -j $(JOBS) --target benches
	@tests/bench/run $(BUILD) engine

bench-routing: all ## time routing decisions, compare policies in the simulator (two minutes)
	@scripts/test-setup.sh
	@cmake --build $(BUILD) -j $(JOBS) --target bench_routing
	@tests/bench/run $(BUILD) routing

bench-scale: all ## hold SCALE_PROVIDERS (40000) real sessions on one coordinator, with churn and a mass reconnect
	@tests/bench/run $(BUILD) scale

bench-store: all ## the books on SQLite and PostgreSQL, with ten million ledger rows
	@cmake --build $(BUILD) -j $(JOBS) --target bench_store bench_books
	@tests/bench/run $(BUILD) store

soak: deps ## hold the engine under random load for SOAK_SECONDS (1800)
	@SOAK_SECONDS=$(SOAK_SECONDS) tests/run soak

check-asan: deps ## unit and end-to-end tests under AddressSanitizer and UBSan
	@scripts/test-setup.sh
	@tests/run asan

check-tsan: deps ## unit and end-to-end tests under ThreadSanitizer
	@scripts/test-setup.sh
	@tests/run tsan

check-clang: deps ## everything compiles without a warning under Clang
	@tests/run clang

check-macos: deps ## everything portable compiles for aarch64-macos (a compile check, nothing runs)
	@scripts/test-setup.sh
	@tests/run macos

fuzz: deps ## look for new faults with every fuzz target for FUZZ_SECONDS (300) each, from a drawn seed (FUZZ_SEED)
	@FUZZ_SECONDS=$(FUZZ_SECONDS) FUZZ_SEED=$(FUZZ_SEED) tests/run fuzz

lint: deps ## formatting, layers, banned calls, file sizes
	@tests/run lint

format: setup ## apply clang-format
	@git ls-files 'src/*.[ch]' 'src/*.cpp' 'tests/*.[ch]' | xargs clang-format -i

install: all ## install programs and man pages under DESTDIR/PREFIX
	@DESTDIR="$(DESTDIR)" cmake --install $(BUILD) --prefix "$(PREFIX)"

clean: ## remove what was built here (the dependency cache stays)
	rm -rf build

help: ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | awk -F '\t' '{ printf "  make %-13s %s\n", $$1, $$2 }'
