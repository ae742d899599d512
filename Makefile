# What people type. The build itself is meson's; `make help` lists the targets.
PREFIX ?= /usr/local
DESTDIR ?=
BUILD := build
ASAN := build-asan-test
SOURCES := $(shell git ls-files '*.c' '*.h' 2>/dev/null)

.PHONY: all help deps demo test unit sim lab lab-full fuzz bench lint install clean

all: $(BUILD)/build.ninja
	@ninja -C $(BUILD)

$(BUILD)/build.ninja:
	@tools/check-deps.sh
	@meson setup $(BUILD) -Dbuildtype=release -Db_ndebug=false >/dev/null

help:
	@echo 'make            build build/postern'
	@echo 'make demo       install what is missing, build, show the main job (root)'
	@echo 'make test       install what is missing, build, run all tests in short form (root)'
	@echo 'make lab-full   the whole NAT matrix and the long transfers (root)'
	@echo 'make sim        thousands of seeds of the simulator'
	@echo 'make fuzz       each fuzz target for a minute (clang)'
	@echo 'make bench      measure beside other programs; writes docs/BENCHMARKS.md (root)'
	@echo 'make lint       format, clang-tidy, cppcheck, banned functions, sizes'
	@echo 'make install    to DESTDIR and PREFIX (now $(PREFIX))'
	@echo 'make clean      remove what was built'

demo:
	@tools/install-deps.sh build lab
	@$(MAKE) --no-print-directory all
	@tests/demo/demo.sh $(BUILD)/postern

test:
	@tools/install-deps.sh build test lab
	@tools/run-tests.sh

unit: all
	@meson test -C $(BUILD) --no-rebuild

sim: all
	@$(BUILD)/tests/sim/sim --seeds 20000 --from 1

lab: all
	@POSTERN_BUILD=$(BUILD) tests/lab/run.sh

lab-full: all
	@POSTERN_BUILD=$(BUILD) tests/lab/run.sh --full

fuzz:
	@tools/install-deps.sh fuzz
	@tools/run-fuzz.sh 60

bench:
	@tools/install-deps.sh bench
	@$(MAKE) --no-print-directory all
	@tests/bench/run.sh

lint:
	@tools/install-deps.sh lint
	@tools/run-lint.sh

install: all
	install -D -m 755 $(BUILD)/postern $(DESTDIR)$(PREFIX)/bin/postern
	install -D -m 644 README.md $(DESTDIR)$(PREFIX)/share/doc/postern/README.md
	install -D -m 644 LICENSE $(DESTDIR)$(PREFIX)/share/doc/postern/LICENSE
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/doc/postern/docs docs/*.md
	install -D -m 644 tools/postern-serve.service $(DESTDIR)$(PREFIX)/share/doc/postern/postern-serve.service

clean:
	rm -rf $(BUILD) $(ASAN)
