# `make help` lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/sh
export PATH := $(PATH):$(HOME)/.cargo/bin:/usr/local/go/bin
TARGET := $(or $(CARGO_TARGET_DIR),target)

.PHONY: help setup build run test bench fmt lint deny collector kube vm fuzz schema clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1|/p' Makefile | awk -F'|' '{ printf "make %-10s %s\n", $$1, $$2 }'

setup: ## install what is missing to build and test (root; Debian, Ubuntu)
	@scripts/setup build test

build: ## target/release/spandrel
	@scripts/setup build
	cargo build --release --locked

run: build ## real traffic on this machine, its requests live in this terminal
	@scripts/setup test
	@scripts/run-demo $(TARGET)/release/spandrel

test: ## everything that can be tested on this machine
	@scripts/setup build test
	@scripts/test

bench: ## what things cost on this machine, as a table (root)
	@scripts/setup build test
	@scripts/bench

fmt: ## format Rust and C
	cargo fmt --all
	scripts/format-c

lint: ## formatting and clippy, as in `make test`
	cargo fmt --all --check
	scripts/format-c --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

deny: ## licences, banned dependencies, advisories
	@scripts/deny

collector: ## target/otelcol/otelcol, the Collector of the tests
	@scripts/setup build
	@scripts/build-collector

kube: ## target/kube/, the Kubernetes API server and etcd of the tests
	@scripts/setup build
	@scripts/build-kube

vm: ## the tests of capture on Debian's kernels 6.1 and 6.12 under qemu
	@scripts/setup build test
	@scripts/vm-tests

fuzz: ## the parser under libFuzzer, five minutes each target
	@scripts/setup build fuzz
	@scripts/fuzz

schema: build ## configurations made from OpenTelemetry's schema: none may be refused (pip)
	@scripts/standard-schema --binary $(TARGET)/release/spandrel

clean: ## remove what was built
	cargo clean
