# `make` lists what there is. Everything that is built stays below target/.

ABI := 0
VERSION := $(shell sed -n '/^\[package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)

TARGET_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))
RELEASE := $(TARGET_DIR)/release
ASAN := $(TARGET_DIR)/asan
TOOLS := $(TARGET_DIR)/tools
FUZZ := $(TARGET_DIR)/fuzz
HOST = $(shell rustc -vV | sed -n 's/^host: //p')

PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
DESTDIR ?=
INSTALL ?= install
CC ?= cc
CFLAGS ?= -O2 -g
TRANSPORT ?= tcp
SECONDS ?= 60

VALGRIND := valgrind --quiet --max-threads=2000 --error-exitcode=99 --fair-sched=yes --child-silent-after-fork=yes --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite

# What the static library needs besides (rustc --print native-static-libs).
STATIC_LIBS := -lgcc_s -lutil -lrt -lpthread -lm -ldl -lc

C_FILES = $(wildcard benches/lab/*.c examples/c/*.[ch] tests/c/*.[ch])
PYTHON_FILES = examples/demo.py fuzz/seeds.py tests/languages.py $(wildcard benches/*/*.py tests/interop/*.py)
WARNINGS := -std=c99 -Wall -Wextra -Wpedantic -Wshadow

# Nothing that is run from here leaves the machine.
export P2PMOUNT_NETWORK := local

.DEFAULT_GOAL := help
BINDINGS := python go node cpp

.PHONY: help lib demo installed test test-core test-languages test-interop interop $(BINDINGS:%=test-%) check check-rust check-header check-symbols check-c \
        check-tools $(BINDINGS:%=check-%) install uninstall header asan valgrind fuzz bench bench-chart bench-peers lab-bench fmt tools clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  make demo TRANSPORT=quic       the same over QUIC"
	@echo "  make fuzz SECONDS=600          ten minutes for each target"
	@echo "  make install PREFIX=/usr/local DESTDIR=       also LIBDIR=, INCLUDEDIR="

lib: ## the release library, shared and static, in target/release
	cargo rustc --release --locked --lib --crate-type cdylib,staticlib
	@ln -sf libp2pmount.so $(RELEASE)/libp2pmount.so.$(ABI)

demo: lib ## two nodes, one tunnel, one web server, checked byte for byte
	@mkdir -p $(TARGET_DIR)/demo
	$(CC) $(WARNINGS) $(CFLAGS) -Iinclude examples/c/tunnel.c examples/c/common.c examples/c/table.c \
	    -o $(TARGET_DIR)/demo/tunnel -L$(RELEASE) -lp2pmount -Wl,-rpath,$(RELEASE)
	python3 examples/demo.py $(TARGET_DIR)/demo/tunnel $(TRANSPORT)

test: test-core $(BINDINGS:%=test-%) test-languages test-interop ## every test; against a real Kubo only if CI=true
	@echo "test: all right"

test-core: ## the library: unit, end to end, C programs, installation
	cargo test --locked --features fault-injection

test-python: ## the Python package, its examples and docs/python.md
test-go: ## the Go module, its examples and docs/go.md
test-node: ## the Node.js package, its examples and docs/node.md
test-cpp: export P2PMOUNT_PREFIX := $(TARGET_DIR)/prefix
test-cpp: installed ## the C++ header, its examples and docs/cpp.md
$(BINDINGS:%=test-%): test-%: lib
	scripts/$*.sh test

# An installation below target/, for tests.
installed: lib
	@$(MAKE) --no-print-directory install DESTDIR= PREFIX=$(TARGET_DIR)/prefix LIBDIR=$(TARGET_DIR)/prefix/lib \
	    INCLUDEDIR=$(TARGET_DIR)/prefix/include >/dev/null

test-languages: lib ## a listener in each language, a forward in each other
	scripts/languages.sh

interop: lib ## against a real Kubo, an old and a current one; PARTS="matrix semantics limits keys compare data"
	scripts/interop.sh $(PARTS)

test-interop: lib
	@scripts/interop.sh test

check: check-rust check-header check-symbols check-c check-tools $(BINDINGS:%=check-%) ## formatting, lints, header, symbols, manual
	@echo "check: all right"

check-rust:
	cargo fmt --check
	cargo fmt --check --manifest-path fuzz/Cargo.toml
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --all-targets --features fault-injection -- -D warnings
	cargo clippy --locked --lib --bench tunnel --features plaintext-bench -- -D warnings
	@if grep -rnE --include='*.rs' '(^|[^`[:alnum:]_])unsafe( *\{|\(| +(fn|impl|extern|trait) )' src | grep -v '^src/capi/' | grep -vE '^[^:]+:[0-9]+: *//'; \
	then echo "unsafe outside src/capi"; exit 1; fi

check-header:
	cargo test --locked --features fault-injection --test header

# The committed list, the functions of the header (tests/header.rs) and what the library exports are the same.
check-symbols: lib
	@nm -D --defined-only $(RELEASE)/libp2pmount.so | awk '{ print $$3 }' | LC_ALL=C sort | diff abi/symbols.txt - || \
	    { echo "left: abi/symbols.txt, right: what the library exports"; exit 1; }
	@readelf -d $(RELEASE)/libp2pmount.so | grep -q 'SONAME.*\[libp2pmount.so.$(ABI)\]' || { echo "wrong soname"; exit 1; }
	@readelf -d $(RELEASE)/libp2pmount.so | grep -q 'FLAGS_1.*NODELETE' || { echo "the library can be unloaded"; exit 1; }
	@if ar t $(RELEASE)/libp2pmount.a | grep -q '^tokio-'; then echo "no link-time optimisation: the crates lie side by side"; exit 1; fi
	@if grep -q /plaintext/ $(RELEASE)/libp2pmount.so; then echo "the release library can do without encryption"; exit 1; fi
	@if nm -D $(RELEASE)/libp2pmount.so | grep -q ' __asan_'; then echo "AddressSanitizer is in the release library"; exit 1; fi

check-c: tools
	@scripts/tools.sh run clang-format --dry-run -Werror $(C_FILES)
	@for file in $(filter benches/% examples/%.c,$(C_FILES)); do $(CC) $(WARNINGS) -Werror -fsyntax-only -Iinclude $$file || exit 1; done

# The demonstration and the tests that are written in Python.
check-tools: tools
	@scripts/tools.sh run ruff check $(PYTHON_FILES)
	@scripts/tools.sh run ruff format --check $(PYTHON_FILES)
	@for folder in $(sort $(dir $(PYTHON_FILES))); do \
	    MYPYPATH=bindings/python/src:tests/interop scripts/tools.sh run mypy --strict --cache-dir $(TOOLS)/mypy \
	        $$(ls $(PYTHON_FILES) | grep "^$$folder[^/]*$$") || exit 1; \
	done

$(BINDINGS:%=check-%): check-%: lib
	scripts/$*.sh check

# As root there is often no cargo: this installs what `make lib` has built.
install: ## what make lib has built: library, headers, pkg-config and CMake files, below DESTDIR and PREFIX
	@test -f $(RELEASE)/libp2pmount.so -a -f $(RELEASE)/libp2pmount.a || \
	    { echo "the library is not built yet: run make lib first, then make install"; exit 1; }
	$(INSTALL) -d $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(LIBDIR)/cmake/p2pmount $(DESTDIR)$(INCLUDEDIR)
	$(INSTALL) -m 755 $(RELEASE)/libp2pmount.so $(DESTDIR)$(LIBDIR)/libp2pmount.so.$(VERSION)
	ln -sf libp2pmount.so.$(VERSION) $(DESTDIR)$(LIBDIR)/libp2pmount.so.$(ABI)
	ln -sf libp2pmount.so.$(ABI) $(DESTDIR)$(LIBDIR)/libp2pmount.so
	$(INSTALL) -m 644 $(RELEASE)/libp2pmount.a $(DESTDIR)$(LIBDIR)/libp2pmount.a
	$(INSTALL) -m 644 include/p2pmount.h bindings/cpp/include/p2pmount.hpp $(DESTDIR)$(INCLUDEDIR)
	@set -e; fill() { \
	    sed -e 's|@PREFIX@|$(PREFIX)|g' -e 's|@LIBDIR@|$(LIBDIR)|g' -e 's|@INCLUDEDIR@|$(INCLUDEDIR)|g' \
	        -e 's|@VERSION@|$(VERSION)|g' -e 's|@ABI@|$(ABI)|g' -e 's|@STATIC_LIBS@|$(STATIC_LIBS)|g' \
	        -e 's|@STATIC_LIST@|$(subst -l,,$(subst $() -l,;,$(STATIC_LIBS)))|g' "$$1" > "$$2"; chmod 644 "$$2"; }; \
	fill p2pmount.pc.in $(DESTDIR)$(LIBDIR)/pkgconfig/p2pmount.pc; \
	fill cmake/p2pmountConfig.cmake.in $(DESTDIR)$(LIBDIR)/cmake/p2pmount/p2pmountConfig.cmake; \
	fill cmake/p2pmountConfigVersion.cmake.in $(DESTDIR)$(LIBDIR)/cmake/p2pmount/p2pmountConfigVersion.cmake

uninstall: ## removes what install put there
	rm -f $(DESTDIR)$(LIBDIR)/libp2pmount.so $(DESTDIR)$(LIBDIR)/libp2pmount.so.$(ABI) \
	    $(DESTDIR)$(LIBDIR)/libp2pmount.so.$(VERSION) $(DESTDIR)$(LIBDIR)/libp2pmount.a \
	    $(DESTDIR)$(INCLUDEDIR)/p2pmount.h $(DESTDIR)$(INCLUDEDIR)/p2pmount.hpp $(DESTDIR)$(LIBDIR)/pkgconfig/p2pmount.pc
	rm -rf $(DESTDIR)$(LIBDIR)/cmake/p2pmount

header: ## writes include/p2pmount.h, abi/symbols.txt and the tables of docs/ anew
	UPDATE_HEADER=1 cargo test --locked --features fault-injection --test header

# gcc's runtime serves the library, too: the programs are compiled with -fsanitize=address and bring it along.
# Dependencies are not optimised, to be compiled sooner.
asan: ## the C tests under AddressSanitizer and LeakSanitizer
	CARGO_PROFILE_DEV_OPT_LEVEL=0 RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address -Cforce-frame-pointers=yes" \
	    cargo rustc --locked --lib --crate-type cdylib --features fault-injection --target $(HOST) --target-dir $(ASAN)
	@ln -sf libp2pmount.so $(ASAN)/$(HOST)/debug/libp2pmount.so.$(ABI)
	@nm -D --undefined-only $(ASAN)/$(HOST)/debug/libp2pmount.so | grep -q ' __asan_' || \
	    { echo "AddressSanitizer is not in the library"; exit 1; }
	P2PMOUNT_TEST_LIBRARY=$(ASAN)/$(HOST)/debug/libp2pmount.so \
	    P2PMOUNT_TEST_CFLAGS="-g -fsanitize=address -fno-omit-frame-pointer" \
	    ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=1:abort_on_error=0 \
	    cargo test --locked --features fault-injection --test capi

valgrind: ## the C tests under valgrind
	cargo rustc --locked --lib --crate-type cdylib --features fault-injection
	@ln -sf libp2pmount.so $(TARGET_DIR)/debug/libp2pmount.so.$(ABI)
	P2PMOUNT_TEST_LIBRARY=$(TARGET_DIR)/debug/libp2pmount.so P2PMOUNT_TEST_CFLAGS=-g P2PMOUNT_TEST_WRAPPER="$(VALGRIND)" \
	    cargo test --locked --features fault-injection --test capi

# What libFuzzer has to know of each branch taken; the compiler gives it without being a nightly one. With --target the
# build scripts are spared.
COVERAGE := -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares

fuzz: ## the muxer against remotes that libFuzzer makes, SECONDS for each target
	RUSTFLAGS="--cfg fuzzing $(COVERAGE)" cargo build --release --locked --manifest-path fuzz/Cargo.toml \
	    --target $(HOST) --target-dir $(FUZZ)
	@set -e; for target in bytes frames; do \
	    mkdir -p $(FUZZ)/corpus/$$target $(FUZZ)/found; \
	    echo "== $$target"; \
	    $(FUZZ)/$(HOST)/release/$$target -max_total_time=$(SECONDS) -timeout=20 -rss_limit_mb=1024 -print_final_stats=1 \
	        -artifact_prefix=$(FUZZ)/found/$$target- $(FUZZ)/corpus/$$target fuzz/seeds/$$target fuzz/regressions/$$target; \
	done

# The feature adds a tunnel without encryption to what is compared; no library is built with it.
BENCH := cargo bench --locked --bench tunnel --features plaintext-bench --

bench: ## the benchmark, beside everything that bench-peers could install; BENCH_ARGS="--only tcp,ssh --rounds 3"
	$(BENCH) $(BENCH_ARGS)

bench-chart: ## the same, and draws docs/tunnel.svg
	$(BENCH) --chart docs/tunnel.svg $(BENCH_ARGS)

bench-peers: ## installs what the benchmark compares with, below target/
	scripts/bench-peers.sh

lab-bench: lib ## plain TCP, tunnels and Kubo on long paths; ARGUMENTS="--quick" for one of them
	benches/lab/lab.sh $(ARGUMENTS)

fmt: tools ## formats everything
	cargo fmt
	cargo fmt --manifest-path fuzz/Cargo.toml
	@scripts/tools.sh run clang-format -i $(C_FILES)
	@scripts/tools.sh run ruff format $(PYTHON_FILES)
	@for binding in $(BINDINGS); do scripts/$$binding.sh fmt; done

# clang-format, ruff and mypy in the versions of scripts/tools.txt, installed below target/ if they are missing.
tools:
	@scripts/tools.sh install

clean: ## removes target/
	cargo clean
