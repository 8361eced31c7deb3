# loquat: one non-recursive Makefile. `make help` lists what it does.
SHELL := /bin/bash
BUILD ?= build
PREFIX ?= /usr/local
CC := gcc
CXX := g++
VERSION := 0.1.0

# V=1 prints the commands themselves.
Q := $(if $(V),,@)
SAN ?=
OPT ?= -O2 -g
WARN := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla
WARNXX := -Wall -Wextra -Werror -Wshadow
PKGS := libuv liburing libssl icu-uc libcrypto jansson libprotobuf-c cjose libcyaml libzstd libxxhash zlib libcurl
DEFS := -D_GNU_SOURCE -DLOQUAT_VERSION='"$(VERSION)"'
INC := -I. -I$(BUILD)/gen -isystem /usr/share/include/llhttp
HARDEN := $(if $(SAN),,-D_FORTIFY_SOURCE=2 -fstack-protector-strong)
SANFLAGS := $(if $(SAN),-DSANITIZED -fsanitize=$(SAN) -fno-sanitize-recover=all -fno-omit-frame-pointer)
CFLAGS = -std=c17 $(OPT) $(HARDEN) -fvisibility=hidden $(WARN) $(DEFS) $(INC) $(SANFLAGS) -MMD -MP $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
CXXFLAGS = -std=c++17 $(OPT) $(HARDEN) -fvisibility=hidden $(WARNXX) $(DEFS) $(INC) $(SANFLAGS) -MMD -MP -fno-exceptions
# The sanitizers have an allocator of their own.
LDLIBS = $(if $(SAN),,-ljemalloc) -lrocksdb -lraft -lwslay -lsimdjson $(shell pkg-config --libs $(PKGS) 2>/dev/null) -lyaml -lstemmer -lstdc++ -lpthread -lm
LDFLAGS = $(SANFLAGS) -Wl,-z,relro,-z,now

# ---- what is built -----------------------------------------------------------------------------
PROGRAMS := loquat-gateway loquat-node loquat-log loquat-compact
MAINS := gateway/main.c store/client/main.c compaction/main.c replication/main.c
src = $(filter-out $(MAINS),$(wildcard $(1)/*.c) $(wildcard $(1)/*.cc))
obj = $(patsubst %,$(BUILD)/obj/%.o,$(1))

BASE_OBJ := $(call obj,$(call src,store/base)) $(BUILD)/obj/gen/wire.pb-c.c.o $(BUILD)/obj/llhttp.o
STORE_OBJ := $(call obj,$(call src,store) $(call src,store/search))
CLIENT_OBJ := $(call obj,$(call src,store/client))
COMPACTION_OBJ := $(call obj,$(call src,compaction))
REPLICATION_OBJ := $(call obj,$(call src,replication))
GATEWAY_OBJ := $(call obj,$(call src,gateway))
LIBS := $(BUILD)/libgateway.a $(BUILD)/libreplication.a $(BUILD)/libcompaction.a $(BUILD)/libstore.a \
	$(BUILD)/libclient.a $(BUILD)/libbase.a

.PHONY: all setup setup-test run test tests-build mutants next-build unit crash power flips turns soak faults check asan tsan tsan-build fuzz fuzz-build sim \
	bench bench-build search-bench bench-peers install deb clean help web
.DELETE_ON_ERROR:
.SECONDARY:
all: $(addprefix $(BUILD)/,$(PROGRAMS)) ## build the programs

$(BUILD)/loquat-gateway: $(BUILD)/obj/gateway/main.c.o $(LIBS)
$(BUILD)/loquat-node: $(BUILD)/obj/replication/main.c.o $(LIBS)
$(BUILD)/loquat-log: $(BUILD)/obj/store/client/main.c.o $(LIBS)
$(BUILD)/loquat-compact: $(BUILD)/obj/compaction/main.c.o $(LIBS)
$(addprefix $(BUILD)/,$(PROGRAMS)):
	@echo "  link $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) -Wl,--start-group $(LIBS) -Wl,--end-group $(LDLIBS)

$(BUILD)/libbase.a: $(BASE_OBJ)
$(BUILD)/libstore.a: $(STORE_OBJ)
$(BUILD)/libclient.a: $(CLIENT_OBJ)
$(BUILD)/libcompaction.a: $(COMPACTION_OBJ)
$(BUILD)/libreplication.a: $(REPLICATION_OBJ)
$(BUILD)/libgateway.a: $(GATEWAY_OBJ)
%.a:
	@mkdir -p $(@D)
	@rm -f $@
	$(Q)$(AR) rcs $@ $^

$(BUILD)/gen/wire.pb-c.h: store/base/wire.proto
	@mkdir -p $(@D)
	$(Q)protoc-c --proto_path=store/base --c_out=$(BUILD)/gen $<
$(BUILD)/gen/wire.pb-c.c: $(BUILD)/gen/wire.pb-c.h
$(BUILD)/obj/gen/wire.pb-c.c.o: $(BUILD)/gen/wire.pb-c.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) -c -o $@ $<
# llhttp comes as sources; strict: otherwise any byte passes for the LF of a chunk's line
$(BUILD)/obj/llhttp.o: $(wildcard /usr/share/llhttp/*.c)
	@mkdir -p $(@D)/llhttp
	$(Q)for f in $(wildcard /usr/share/llhttp/*.c); do \
		$(CC) -O2 -g $(SANFLAGS) -DLLHTTP_STRICT_MODE=1 -I/usr/share/include/llhttp -c -o $(@D)/llhttp/$$(basename $$f).o $$f || exit 1; done
	$(Q)$(LD) -r -o $@ $(@D)/llhttp/*.o
$(BUILD)/obj/%.c.o: %.c | $(BUILD)/gen/wire.pb-c.h
	@mkdir -p $(@D)
	@echo "  cc   $<"
	$(Q)$(CC) $(CFLAGS) -c -o $@ $<
$(BUILD)/obj/%.cc.o: %.cc | $(BUILD)/gen/wire.pb-c.h
	@mkdir -p $(@D)
	@echo "  c++  $<"
	$(Q)$(CXX) $(CXXFLAGS) -c -o $@ $<
-include $(shell find $(BUILD)/obj $(BUILD)/next/obj -name '*.d' 2>/dev/null)

# ---- tests -------------------------------------------------------------------------------------
# tests/*/*_test.c: one Criterion program each, linked with every library.
TEST_SRC := $(wildcard tests/*/*_test.c)
TEST_LIB_OBJ := $(call obj,$(wildcard tests/lib/*.c))
TEST_BIN := $(patsubst tests/%.c,$(BUILD)/tests/%,$(TEST_SRC))
$(BUILD)/tests/%: $(BUILD)/obj/tests/%.c.o $(TEST_LIB_OBJ) $(LIBS)
	@mkdir -p $(@D)
	@echo "  link $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) -Wl,--start-group $(LIBS) -Wl,--end-group $(LDLIBS) -lcriterion
# What is preloaded is no program, and is not sanitized: its functions come before those of all others.
SHIM := $(BUILD)/tests/faults/shim.so
SLOW := $(BUILD)/tests/faults/slow.so
CALLER := $(BUILD)/tests/faults/caller.so
FAULT_SRC := $(filter-out $(patsubst %,tests/faults/%.c,shim slow caller power_disk),$(wildcard tests/faults/*.c))
FAULT_BIN := $(patsubst tests/%.c,$(BUILD)/tests/%,$(FAULT_SRC)) $(SHIM) $(SLOW) $(CALLER)
$(SHIM) $(SLOW) $(CALLER): $(BUILD)/%.so: %.c tests/faults/shim.h
	@mkdir -p $(@D)
	@echo "  link $@"
	$(Q)$(CC) -std=c17 $(OPT) $(WARN) $(DEFS) -I. -fvisibility=hidden -shared -fPIC -o $@ $< -ldl
# Its disk loses power, and segments of its journal are full sooner: those who see their size come
# before the libraries.
SMALL_OBJ := $(patsubst %,$(BUILD)/small/%.o,$(shell grep -lw JOURNAL_SEGMENT replication/*.c))
$(BUILD)/small/%.c.o: %.c | $(BUILD)/gen/wire.pb-c.h
	@mkdir -p $(@D)
	@echo "  cc   $< (small segments)"
	$(Q)$(CC) $(CFLAGS) -DJOURNAL_SEGMENT=262144 -c -o $@ $<
-include $(SMALL_OBJ:.o=.d)
$(BUILD)/tests/faults/power: $(call obj,tests/faults/power.c tests/faults/power_disk.c) $(SMALL_OBJ) $(TEST_LIB_OBJ) $(LIBS)
	@mkdir -p $(@D)
	@echo "  link $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) -Wl,--start-group $(LIBS) -Wl,--end-group $(LDLIBS) -lcriterion
BENCH_LIB_OBJ := $(call obj,$(wildcard bench/lib/*.c) tests/lib/nodelink.c tests/lib/scratch.c tests/lib/certs.c)
CROWDED := soak stalled # faults whose clients are those of the benches
CROWDED_BIN := $(CROWDED:%=$(BUILD)/tests/faults/%)
$(CROWDED_BIN): $(BUILD)/tests/%: $(BUILD)/obj/tests/%.c.o $(BENCH_LIB_OBJ) $(LIBS)
	@mkdir -p $(@D)
	@echo "  link $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) -Wl,--start-group $(LIBS) -Wl,--end-group $(LDLIBS)
# What replication stands on comes from the simulation, before the libraries.
CLUSTER := $(BUILD)/tests/sim/cluster
$(CLUSTER): $(call obj,$(wildcard tests/sim/*.c) tests/lib/dice.c) $(LIBS)
	@mkdir -p $(@D)
	@echo "  link $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) -Wl,--start-group $(LIBS) -Wl,--end-group $(LDLIBS)
# The same with a bug that is put into one file: tests/sim/mutants/NAME.patch.
MUTANTS := $(patsubst tests/sim/%.patch,$(BUILD)/tests/sim/%,$(wildcard tests/sim/mutants/*.patch))
$(MUTANTS): $(BUILD)/tests/sim/%: tests/sim/%.patch $(CLUSTER)
	@mkdir -p $(@D)
	@patch -s -o $@.c "$$(sed -n 's|^--- a/||p' $<)" $<
	$(Q)$(CC) $(CFLAGS) -w -c -o $@.o $@.c
	$(Q)$(CC) $(LDFLAGS) -o $@ $@.o $(call obj,$(wildcard tests/sim/*.c) tests/lib/dice.c) \
		-Wl,--start-group $(LIBS) -Wl,--end-group $(LDLIBS)
mutants: $(MUTANTS)
# A next release, with newer versions on the wire and on the disk: this one under tests/e2e/next.patch.
# What sees a patched file, as the dependencies of this one's objects tell, is compiled again.
NEXT := $(BUILD)/next
NEXT_PATCH := tests/e2e/next.patch
NEXT_FILES := $(shell sed -n 's|^--- a/||p' $(NEXT_PATCH))
NEXT_SEES := $(patsubst $(BUILD)/%.d,$(NEXT)/%.o,$(shell grep -rlwF --include='*.d' $(NEXT_FILES:%=-e %) \
	$(addprefix $(BUILD)/obj/,gateway replication compaction store) 2>/dev/null))
NEXT_MAINS := $(patsubst $(BUILD)/%,$(NEXT)/%,$(call obj,$(MAINS)))
NEXT_BIN := $(addprefix $(NEXT)/,loquat-node loquat-gateway loquat-compact)
next_main = $(or $(filter $(NEXT)/obj/$(1),$(NEXT_SEES)),$(BUILD)/obj/$(1))
next-build: $(NEXT_BIN)
$(NEXT)/src/patched: $(NEXT_PATCH) $(NEXT_FILES)
	@rm -rf $(@D) && mkdir -p $(@D)
	@cp --parents $(NEXT_FILES) $(@D) && patch -s -p1 -d $(@D) <$(NEXT_PATCH) && touch $@
$(NEXT)/obj/%.c.o: %.c $(NEXT)/src/patched
	@mkdir -p $(@D)
	@echo "  cc   $< (next)"
	$(Q)$(CC) -I$(NEXT)/src $(CFLAGS) -c -o $@ $(firstword $(wildcard $(NEXT)/src/$<) $<)
$(NEXT)/loquat-node: $(call next_main,replication/main.c.o)
$(NEXT)/loquat-gateway: $(call next_main,gateway/main.c.o)
$(NEXT)/loquat-compact: $(call next_main,compaction/main.c.o)
$(NEXT_BIN): $(filter-out $(NEXT_MAINS),$(NEXT_SEES)) $(LIBS)
	@echo "  link $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) -Wl,--start-group $(LIBS) -Wl,--end-group $(LDLIBS)
tests-build: all $(TEST_BIN) $(FAULT_BIN) $(CLUSTER) $(BUILD)/bench/storm $(BUILD)/bench/replay
	+@$(MAKE) --no-print-directory next-build # once it is known who sees what
unit: tests-build ## run the unit tests only
	BUILD=$(BUILD) tests/run unit
test: setup-test web ## install what is missing, build, run every test
	+$(MAKE) --no-print-directory tests-build mutants
	@BUILD=$(BUILD) tests/run
asan: setup-test ## every test under AddressSanitizer, UBSan and LeakSanitizer
	+$(MAKE) --no-print-directory BUILD=build/asan SAN=address,undefined OPT="-O1 -g" tests-build
	@BUILD=build/asan tests/run
tsan: setup-test ## the threaded parts under ThreadSanitizer
	+$(MAKE) --no-print-directory BUILD=build/tsan SAN=thread OPT="-O1 -g" tsan-build
	@for t in $(patsubst tests/%.c,build/tsan/tests/%,$(wildcard tests/*/*_tsan.c)); do \
		TSAN_OPTIONS="ignore_noninstrumented_modules=1 halt_on_error=1" $$t || exit 1; done
tsan-build: $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/*/*_tsan.c))
FAULTS := $(filter-out $(CROWDED),$(patsubst tests/faults/%.c,%,$(filter-out %_test.c %/parse.c %/replicas.c %/older.c,$(FAULT_SRC))))
crash: ## ROUNDS (200) kills of a node under load
power: ## ROUNDS (100) power cuts of a node under load
flips: ## ROUNDS (100) flipped bits in a data directory
$(FAULTS): setup-test
	+$(MAKE) --no-print-directory all $(BUILD)/tests/faults/$@
	@$(BUILD)/tests/faults/$@ $(or $(ROUNDS),$(if $(filter crash,$@),200,100))
HOURS ?= 1
soak: setup-test ## HOURS of a town's life on one server, at RATE messages a second or half of the most
	+$(MAKE) --no-print-directory all $(BUILD)/tests/faults/soak
	@BUILD=$(BUILD) $(BUILD)/tests/faults/soak --secs $$(awk 'BEGIN { print 3600 * $(HOURS) }') \
		$(if $(RATE),--rate $(RATE))
turns: setup-test ## every fallible call of the tools, the parsers and the server's start, in turn
	+$(MAKE) --no-print-directory all $(BUILD)/tests/faults/parse $(BUILD)/tests/faults/older $(SHIM)
	@BUILD=$(BUILD) tests/faults/turns.py
faults: setup-test ## ROUNDS (100) faults of three nodes and their network, by SEED; PROXY=1: no namespaces
	+$(MAKE) --no-print-directory all $(BUILD)/tests/faults/replicas $(SLOW) $(CALLER)
	@BUILD=$(BUILD) tests/faults/cluster.py $(or $(ROUNDS),100) \
		$(if $(filter command line,$(origin SEED)),--seed $(SEED)) \
		$(if $(filter command line,$(origin PROXY)),--proxy)
check: setup-test ## format, clang-tidy, cppcheck, layers
	+@$(MAKE) --no-print-directory tests-build
	@BUILD=$(BUILD) tests/check

# ---- installing, running -------------------------------------------------------------------------
setup: ## install the packages that building needs
	@.ci/setup
setup-test:
	@.ci/setup test
NODE_FITS = const [a, b] = process.versions.node.split("."); process.exit(a > 18 || a == 18 && b >= 18 ? 0 : 1)
web: ## build the SDK and the page (needs npm, and node 18.18 or newer)
	@if command -v npm >/dev/null && node -e '$(NODE_FITS)' 2>/dev/null; then \
		$(MAKE) --no-print-directory gateway/web/dist/index.html; \
	else echo "web: no npm with node 18.18 or newer here: the servers work without the page"; fi
gateway/web/node_modules/.package-lock.json: gateway/web/package-lock.json
	cd gateway/web && npm ci --no-audit --no-fund --loglevel=error
gateway/web/dist/index.html: gateway/web/node_modules/.package-lock.json \
		$(shell find gateway/web/src gateway/web/sdk -type f 2>/dev/null) $(wildcard gateway/web/*.*)
	cd gateway/web && npm run --silent build
	@touch $@
run: setup ## install what is missing, build, start on 127.0.0.1:8080, print links
	@$(MAKE) --no-print-directory web || \
		echo "web: the page could not be built (see above): the server runs without it"
	+@$(MAKE) --no-print-directory -j$$(nproc) all
	@gateway/demo ./data

# One object with what the functions of the header need. Every other name in it is local, so that a
# program with a json_get of its own links too.
$(BUILD)/libloquat.a: store/client/loquat.h $(BUILD)/libclient.a $(BUILD)/libbase.a
	@grep -oE '\bloquat_[a-z_]+\(' $< | tr -d '(' | sort -u >$(BUILD)/obj/loquat.api
	$(Q)$(LD) -r $$(sed 's/^/-u /' $(BUILD)/obj/loquat.api) -o $(BUILD)/obj/loquat.o $(filter %.a,$^)
	$(Q)$(OBJCOPY) --keep-global-symbols=$(BUILD)/obj/loquat.api $(BUILD)/obj/loquat.o
	@rm -f $@
	$(Q)$(AR) rcs $@ $(BUILD)/obj/loquat.o
$(BUILD)/man/%: docs/man/%.scd
	@mkdir -p $(@D)
	$(Q)scdoc <$< >$@
OBJCOPY ?= objcopy
LIBDIR ?= $(PREFIX)/lib
MANUALS := $(if $(shell command -v scdoc),$(patsubst docs/man/%.scd,$(BUILD)/man/%,$(wildcard docs/man/*.scd)))
TO = $(DESTDIR)$(PREFIX)
FILL = sed -e 's|@PREFIX@|$(PREFIX)|g; s|@LIBDIR@|$(LIBDIR)|g; s|@VERSION@|$(VERSION)|g'
install: all $(BUILD)/libloquat.a $(MANUALS) ## programs, C library, manuals, page, systemd unit: into $(DESTDIR)$(PREFIX)
	install -d $(TO)/bin $(TO)/include $(DESTDIR)$(LIBDIR)/pkgconfig $(TO)/share/man/man1 \
		$(TO)/share/doc/loquat/examples $(TO)/lib/systemd/system $(TO)/lib/sysusers.d
	install -m 755 $(addprefix $(BUILD)/,$(PROGRAMS)) $(TO)/bin/
	install -m 644 store/client/loquat.h $(TO)/include/
	install -m 644 $(BUILD)/libloquat.a $(DESTDIR)$(LIBDIR)/
	$(FILL) store/client/loquat.pc.in | install -m 644 /dev/stdin $(DESTDIR)$(LIBDIR)/pkgconfig/loquat.pc
	@for unit in loquat-gateway loquat-node; do $(FILL) gateway/packaging/$$unit.service.in | \
		install -m 644 /dev/stdin $(TO)/lib/systemd/system/$$unit.service || exit 1; done
	install -m 644 gateway/packaging/loquat.sysusers $(TO)/lib/sysusers.d/loquat.conf
	install -m 644 gateway/packaging/loquat.yaml gateway/packaging/loquat-node.yaml $(TO)/share/doc/loquat/examples/
	install -m 644 $(addprefix docs/examples/,haproxy.cfg alerts.yml grafana-dashboard.json count.c tail.c) $(TO)/share/doc/loquat/examples/
	install -m 755 $(addprefix docs/examples/,feed.py feed.sh) $(TO)/share/doc/loquat/examples/
	install -m 644 LICENSE gateway/packaging/NOTICES $(TO)/share/doc/loquat/
	$(if $(MANUALS),install -m 644 $(MANUALS) $(TO)/share/man/man1/,@echo 'install: no scdoc here: without the manuals')
	@rm -rf $(TO)/share/loquat/web
	@if [ -f gateway/web/dist/index.html ]; then cd gateway/web/dist && \
		find . -type f -exec install -D -m 644 {} $(abspath $(TO))/share/loquat/web/{} \; ; \
	else echo 'install: the page is not built (make web): without it'; fi
deb: all web ## a Debian package: build/deb/loquat_VERSION_ARCH.deb
	+@MAKE="$(MAKE)" BUILD=$(BUILD) VERSION=$(VERSION) gateway/packaging/deb

# ---- simulation: every test program that takes its randomness from LOQUAT_SEED ---------------------
SIM_BIN = $(patsubst tests/%.c,$(BUILD)/tests/%,$(shell grep -l 'getenv("LOQUAT_SEED")' tests/*/*_test.c))
SEED ?= 1
SEEDS ?= 1000
sim: setup-test ## the state machine, and a cluster, under SEEDS random histories, from SEED on
	+$(MAKE) --no-print-directory tests-build mutants
	@BUILD=$(BUILD) tests/sim/run $(SEED) $(SEEDS) --mutants
	@tests/lib/sim $(SEED) $(SEEDS) $(SIM_BIN)

# ---- fuzz targets (clang, libFuzzer): tests/fuzz/*_fuzz.c ------------------------------------------
FUZZ_SRC := $(wildcard tests/fuzz/*_fuzz.c)
FUZZ_BIN := $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/%,$(FUZZ_SRC))
FUZZ_SECS ?= 60
fuzz: setup-test ## run each fuzz target for FUZZ_SECS seconds
	+$(MAKE) --no-print-directory BUILD=build/clang CC=clang CXX=clang++ OPT="-O1 -g" \
		SAN=address,undefined,fuzzer-no-link fuzz-build
	@for f in $(patsubst tests/fuzz/%.c,build/clang/fuzz/%,$(FUZZ_SRC)); do \
		name=$$(basename $$f _fuzz); mkdir -p build/corpus/$$name; echo "$$f"; \
		$$f -max_total_time=$(FUZZ_SECS) -print_final_stats=0 -verbosity=0 -artifact_prefix=build/ \
			build/corpus/$$name $$(ls -d tests/fuzz/corpus/$$name 2>/dev/null) || exit 1; done
fuzz-build: $(FUZZ_BIN)
$(BUILD)/fuzz/%: $(BUILD)/obj/tests/fuzz/%.c.o $(TEST_LIB_OBJ) $(LIBS)
	@mkdir -p $(@D)
	@echo "  link $@"
	$(Q)$(CXX) -fsanitize=address,undefined,fuzzer -o $@ $(filter %.o,$^) \
		-Wl,--start-group $(LIBS) -Wl,--end-group $(LDLIBS)

# ---- benches: one program per promise, one JSON line per result ---------------------------------
BENCH_BIN := $(patsubst bench/%.c,$(BUILD)/bench/%,$(wildcard bench/*.c))
$(BUILD)/bench/%: $(BUILD)/obj/bench/%.c.o $(BENCH_LIB_OBJ) $(LIBS)
	@mkdir -p $(@D)
	@echo "  link $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) -Wl,--start-group $(LIBS) -Wl,--end-group $(LDLIBS)
# Beside programs that are libraries: libsqlite3-dev, libpq-dev.
SEARCH_BENCH := $(BUILD)/bench/search
SEARCH_OBJ := $(call obj,$(wildcard bench/search/*.c))
$(SEARCH_BENCH): $(call obj,bench/search.c) $(SEARCH_OBJ) $(BENCH_LIB_OBJ) $(LIBS)
	@mkdir -p $(@D)
	@echo "  link $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) -Wl,--start-group $(LIBS) -Wl,--end-group $(LDLIBS) -lsqlite3 -lpq
$(call obj,bench/search/postgres.c): INC += -isystem $(shell pg_config --includedir 2>/dev/null)
search-bench: $(SEARCH_BENCH)
bench-build: all $(filter-out $(SEARCH_BENCH),$(BENCH_BIN))
bench: setup ## measure: every figure and its reference in the same run
	+$(MAKE) --no-print-directory bench-build
	@BUILD=$(BUILD) bench/run all
bench-peers: setup ## measure beside Redis and NATS
	+$(MAKE) --no-print-directory bench-build
	@BUILD=$(BUILD) bench/run peers

clean: ## remove what was built
	rm -rf build gateway/web/dist
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort -u | expand -t 16
