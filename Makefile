# What people type. The build itself is meson's; `make help` lists the targets.
PREFIX ?= /usr/local
DESTDIR ?=
BUILD := build
TEST_BUILDS := build-test build-asan-test build-fuzz build-coverage
SHARE := $(DESTDIR)$(PREFIX)/share
DOC := $(SHARE)/doc/postern
# Everything but the build itself may need root; the scripts ask sudo where it does.
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo --preserve-env=POSTERN_BUILD)

.PHONY: all tests prometheus static openwrt-test image deb deb-test reproducible distros dist uninstall help demo test unit sim mutants lab lab-full soak matrix session portal-pages fuzz bench \
	lint hooks coverage install clean
.DELETE_ON_ERROR:

all: $(BUILD)/build.ninja
	@ninja -C $(BUILD) program

# the tests too, and what they and the measurements run
tests: $(BUILD)/build.ninja
	@tools/check-deps.sh cmocka
	@meson configure $(BUILD) -Dtests=enabled
	@ninja -C $(BUILD)

$(BUILD)/build.ninja:
	@tools/check-deps.sh
	@meson setup $(BUILD) -Dbuildtype=release -Db_ndebug=false

help:
	@echo 'make            build build/postern'
	@echo 'make tests      build the tests too, without running them'
	@echo 'make demo       install what is missing, build, show the main job (root or sudo)'
	@echo 'make test       install what is missing, build, run the tests (root or sudo)'
	@echo 'make unit       unit tests and a short simulation only'
	@echo 'make sim        20,000 seeds of the simulator, 1,000 of each pair of NATs, odds of prediction, 1,000 of the programs'
	@echo 'make mutants    what is broken on purpose, which the simulator of the programs must find'
	@echo 'make lab        real programs through real NAT rules, short form (root or sudo)'
	@echo 'make lab-full   the same with every pair of NATs and long transfers'
	@echo 'make soak       six devices that connect, move and die, for SOAK_SECONDS (600) (root or sudo)'
	@echo 'make matrix     every pair of NATs: which kind won and when, to docs/ (root or sudo)'
	@echo 'make session    the first wish of the README recorded from a real run, to docs/session.svg (root or sudo)'
	@echo 'make portal-pages  the portal in a browser: accessibility, forms, screenshots'
	@echo 'make fuzz       each fuzz target for FUZZ_SECONDS (60) seconds (clang)'
	@echo 'make prometheus figures, alerts and dashboard against a real Prometheus, if it is there'
	@echo 'make bench      measure beside other programs (root or sudo); PART=far: that part, quickly'
	@echo 'make lint       format, clang-tidy, cppcheck, banned functions, lengths, floors'
	@echo 'make hooks      make lint before each commit, the slow part on what is staged only'
	@echo 'make coverage   what the tests run of each directory of src/; the lab too, if root'
	@echo 'make install    to PREFIX ($(PREFIX)) under DESTDIR'
	@echo 'make uninstall  what make install put there, with the same PREFIX and DESTDIR'
	@echo 'make dist       the release archive of what is committed, and its SHA-256'
	@echo 'make deb        Debian packages in build-deb/, with the libraries of this machine'
	@echo 'make deb-test   install, enable, upgrade and purge them in a copy of this root (root or sudo)'
	@echo 'make static     one self-contained postern for any Linux, to build-static/; ARCH=aarch64, PROFILE=client or host'
	@echo 'make openwrt-test  the OpenWrt recipe under stand-ins of its SDK and of procd (root or sudo)'
	@echo 'make image      an OCI image of it, to build-image/'
	@echo 'make distros    build and unit tests on Debian 12, 13 and Ubuntu 26.04 LTS (debootstrap, root or sudo)'
	@echo 'make reproducible  two builds in two folders, compared'
	@echo 'make clean      remove what was built'

demo:
	@tools/install-deps.sh build lab
	@$(MAKE) --no-print-directory all
	@tests/demo/demo.sh $(BUILD)/postern

# What drives the browser; the tests that need it are skipped where it cannot be had.
BROWSER := tests/portal/node_modules/.package-lock.json
$(BROWSER): tests/portal/package-lock.json
	@cd tests/portal && npm ci --silent --no-audit --no-fund && touch node_modules/.package-lock.json

test:
	@tools/install-deps.sh build test lab
	@{ tools/install-deps.sh portal && $(MAKE) --no-print-directory $(BROWSER); } || \
		echo 'make test: without a browser the tests that need it are skipped' >&2
	@tools/run-tests.sh

unit: tests
	@meson test -C $(BUILD) --no-rebuild

sim: tests
	@$(BUILD)/tests/sim/sim --pairs 1000 & first=$$!; \
		$(BUILD)/tests/sim/sim --seeds 20000 --from 1; second=$$?; \
		wait $$first && [ $$second = 0 ]
	@$(BUILD)/tests/sim/odds --seeds 1000
	@$(BUILD)/tests/sim/world/faults --seeds 1000 --coverage

mutants:
	@tests/sim/mutants.sh

lab: tests
	@POSTERN_BUILD=$(BUILD) $(SUDO) tests/lab/run.sh

prometheus:
	@contrib/prometheus/try.sh $(BUILD)

lab-full: tests
	@POSTERN_BUILD=$(BUILD) $(SUDO) tests/lab/run.sh --full

SOAK_SECONDS ?= 600
soak: tests
	@POSTERN_BUILD=$(BUILD) $(SUDO) env POSTERN_SOAK_S=$(SOAK_SECONDS) tests/lab/run.sh -s -k test_soak

matrix:
	@tools/install-deps.sh lab
	@$(MAKE) --no-print-directory tests
	@POSTERN_BUILD=$(BUILD) $(SUDO) /usr/bin/python3 -m tests.lab.matrix

session:
	@tools/install-deps.sh lab
	@$(MAKE) --no-print-directory tests
	@POSTERN_BUILD=$(BUILD) $(SUDO) /usr/bin/python3 -m tests.lab.session

portal-pages:
	@tools/install-deps.sh build portal
	@$(MAKE) --no-print-directory tests $(BROWSER)
	@POSTERN_BUILD=$(BUILD) node --test tests/portal/pages.test.mjs

FUZZ_SECONDS ?= 60
fuzz:
	@tools/install-deps.sh fuzz
	@tools/run-fuzz.sh $(FUZZ_SECONDS)

bench:
	@tools/install-deps.sh bench
	@$(MAKE) --no-print-directory tests
	@POSTERN_BUILD=$(BUILD) $(SUDO) tests/bench/run.sh $(if $(PART),--quick --only $(PART))

lint: tests
	@tools/install-deps.sh lint
	@tools/run-lint.sh $(if $(STAGED),--staged) $(BUILD)

hooks:
	@hook="$$(git rev-parse --git-path hooks)/pre-commit"; \
	if [ -e "$$hook" ] && ! grep -qs 'make --no-print-directory lint' "$$hook"; then \
	    echo "make hooks: there is another $$hook: move it away first" >&2; exit 1; \
	fi; \
	install -D -m 755 tools/pre-commit "$$hook"

coverage:
	@tools/install-deps.sh coverage
	@tools/run-coverage.sh

install: all
	install -D -m 755 $(BUILD)/postern $(DESTDIR)$(PREFIX)/bin/postern
	[ ! -e $(BUILD)/postern-helper ] || install -D -m 755 $(BUILD)/postern-helper \
		$(DESTDIR)$(PREFIX)/libexec/postern/postern-helper
	install -d $(SHARE)/man/man1 $(SHARE)/man/man5
	install -m 644 $(BUILD)/postern*.1 $(SHARE)/man/man1/
	install -m 644 $(BUILD)/postern*.5 $(SHARE)/man/man5/
	install -D -m 644 packaging/completion/postern.bash $(SHARE)/bash-completion/completions/postern
	install -D -m 644 packaging/completion/_postern $(SHARE)/zsh/site-functions/_postern
	install -D -m 644 packaging/completion/postern.fish $(SHARE)/fish/vendor_completions.d/postern.fish
	install -d $(DOC)/docs/decisions $(DOC)/systemd $(DOC)/packaging/container $(DOC)/packaging/openwrt/files
	install -m 644 packaging/container/*.yaml $(DOC)/packaging/container/
	install -m 644 packaging/openwrt/Makefile $(DOC)/packaging/openwrt/
	install -m 644 packaging/openwrt/files/* $(DOC)/packaging/openwrt/files/
	install -m 644 README.md LICENSE CHANGELOG.md $(DOC)/
	install -m 644 docs/*.md docs/*.svg docs/*.png $(DOC)/docs/
	install -m 644 docs/decisions/*.md $(DOC)/docs/decisions/
	for unit in broker serve up; do \
	    sed 's|@PREFIX@|$(PREFIX)|' tools/postern-$$unit.service.in \
	        >$(DOC)/systemd/postern-$$unit.service && \
	    chmod 644 $(DOC)/systemd/postern-$$unit.service || exit 1; \
	done

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/postern $(DESTDIR)$(PREFIX)/libexec/postern/postern-helper
	rm -f $(SHARE)/man/man1/postern.1 $(SHARE)/man/man1/postern-*.1 $(SHARE)/man/man5/postern-*.5
	rm -f $(SHARE)/bash-completion/completions/postern $(SHARE)/zsh/site-functions/_postern \
		$(SHARE)/fish/vendor_completions.d/postern.fish
	rm -rf $(DOC)
	[ ! -d $(DESTDIR)$(PREFIX)/libexec/postern ] || rmdir $(DESTDIR)$(PREFIX)/libexec/postern

VERSION := $(shell sed -n "1s/.*version: '//p" meson.build | cut -d"'" -f1)
DIST := postern-$(VERSION)
dist:
	@[ -z "$$(git status --porcelain)" ] || { \
		echo 'make dist: something here is not committed, and would be missing' >&2; exit 1; }
	@git archive --prefix=$(DIST)/ HEAD | gzip -n9 >$(DIST).tar.gz
	@sha256sum $(DIST).tar.gz | tee $(DIST).tar.gz.sha256

deb:
	@tools/install-deps.sh deb
	@tools/deb.sh

deb-test: deb
	@$(SUDO) tests/packaging/deb.sh

ARCH ?= $(shell uname -m)
PROFILE ?= full
static:
	@tools/install-deps.sh static $(if $(filter-out $(shell uname -m),$(ARCH)),static-$(ARCH))
	@tools/static.sh --arch $(ARCH) --profile $(PROFILE)

openwrt-test: all
	@tools/install-deps.sh openwrt
	@$(SUDO) tests/packaging/openwrt.sh

image: static
	@tools/image.sh

# DISTROS=trixie: that one only
distros:
	@tools/install-deps.sh distros
	@$(SUDO) tools/distros.sh $(DISTROS)

reproducible:
	@tools/check-deps.sh
	@tests/packaging/reproducible.sh

clean:
	rm -rf $(BUILD) $(TEST_BUILDS) tests/portal/node_modules $(DIST).tar.gz*
