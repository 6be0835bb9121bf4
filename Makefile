# The requirement's targets, each one line onto ./dev or cargo. `./dev help` says more.
PREFIX ?= /usr/local
.PHONY: all proto build build-all test coverage install clean lint fmt

all: build

proto:
	touch crates/ghost-proto/build.rs && cargo build --package ghost-proto

build:
	cargo xtask build

build-all:
	cargo xtask build-all

test:
	./dev test

coverage:
	cargo xtask coverage

install: build
	packaging/install.sh "$(DESTDIR)" "$(PREFIX)"

clean:
	cargo clean && rm -rf build

lint:
	./dev check

fmt:
	./dev fmt
