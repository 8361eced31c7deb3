# loquat: one non-recursive Makefile. `make help` lists what it does.
SHELL := /bin/bash
BUILD ?= build
PREFIX ?= /usr/local
CC := gcc
CXX := g++
VERSION := 0.1.0

SAN ?=
OPT ?= -O2 -g
WARN := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla
WARNXX := -Wall -Wextra -Werror -Wshadow
PKGS := libuv libssl libcrypto jansson libprotobuf-c cjose libcyaml libzstd libxxhash
DEFS := -D_GNU_SOURCE -DLOQUAT_VERSION='"$(VERSION)"'
INC := -I. -I$(BUILD)/gen -isystem /usr/share/include/llhttp
SANFLAGS := $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=all -fno-omit-frame-pointer)
CFLAGS = -std=c17 $(OPT) $(WARN) $(DEFS) $(INC) $(SANFLAGS) -MMD -MP $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
CXXFLAGS = -std=c++17 $(OPT) $(WARNXX) $(DEFS) $(INC) $(SANFLAGS) -MMD -MP -fno-exceptions
LDLIBS = -lrocksdb -lraft -lwslay -lsimdjson $(shell pkg-config --libs $(PKGS) 2>/dev/null) -lyaml -lstdc++ -lpthread -lm
LDFLAGS = $(SANFLAGS) -Wl,-z,now

# ---- what is built -----------------------------------------------------------------------------
PROGRAMS := loquat-gateway loquat-log loquat-compact
MAINS := gateway/main.c store/client/main.c compaction/main.c replication/main.c
src = $(filter-out $(MAINS),$(wildcard $(1)/*.c) $(wildcard $(1)/*.cc))
obj = $(patsubst %,$(BUILD)/obj/%.o,$(1))

BASE_OBJ := $(call obj,$(call src,store/base)) $(BUILD)/obj/gen/wire.pb-c.c.o $(BUILD)/obj/llhttp.o
STORE_OBJ := $(call obj,$(call src,store))
CLIENT_OBJ := $(call obj,$(call src,store/client))
COMPACTION_OBJ := $(call obj,$(call src,compaction))
REPLICATION_OBJ := $(call obj,$(call src,replication))
GATEWAY_OBJ := $(call obj,$(call src,gateway))
LIBS := $(BUILD)/libgateway.a $(BUILD)/libreplication.a $(BUILD)/libcompaction.a $(BUILD)/libstore.a \
	$(BUILD)/libclient.a $(BUILD)/libbase.a

.PHONY: all setup run test check asan tsan fuzz sim bench bench-peers install deb clean help web
all: $(addprefix $(BUILD)/,$(PROGRAMS)) ## build the programs

$(BUILD)/loquat-gateway: $(BUILD)/obj/gateway/main.c.o $(LIBS)
$(BUILD)/loquat-log: $(BUILD)/obj/store/client/main.c.o $(LIBS)
$(BUILD)/loquat-compact: $(BUILD)/obj/compaction/main.c.o $(LIBS)
$(addprefix $(BUILD)/,$(PROGRAMS)):
	$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) -Wl,--start-group $(LIBS) -Wl,--end-group $(LDLIBS)

$(BUILD)/libbase.a: $(BASE_OBJ)
$(BUILD)/libstore.a: $(STORE_OBJ)
$(BUILD)/libclient.a: $(CLIENT_OBJ)
$(BUILD)/libcompaction.a: $(COMPACTION_OBJ)
$(BUILD)/libreplication.a: $(REPLICATION_OBJ)
$(BUILD)/libgateway.a: $(GATEWAY_OBJ)
%.a:
	@mkdir -p $(@D)
	@rm -f $@
	$(AR) rcs $@ $^

$(BUILD)/gen/wire.pb-c.h: store/base/wire.proto
	@mkdir -p $(@D)
	protoc-c --proto_path=store/base --c_out=$(BUILD)/gen $<
$(BUILD)/gen/wire.pb-c.c: $(BUILD)/gen/wire.pb-c.h
$(BUILD)/obj/gen/wire.pb-c.c.o: $(BUILD)/gen/wire.pb-c.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -c -o $@ $<
# llhttp comes as sources
$(BUILD)/obj/llhttp.o: $(wildcard /usr/share/llhttp/*.c)
	@mkdir -p $(@D)/llhttp
	for f in $(wildcard /usr/share/llhttp/*.c); do \
		$(CC) -O2 -g $(SANFLAGS) -I/usr/share/include/llhttp -c -o $(@D)/llhttp/$$(basename $$f).o $$f || exit 1; done
	$(LD) -r -o $@ $(@D)/llhttp/*.o
$(BUILD)/obj/%.c.o: %.c | $(BUILD)/gen/wire.pb-c.h
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -c -o $@ $<
$(BUILD)/obj/%.cc.o: %.cc | $(BUILD)/gen/wire.pb-c.h
	@mkdir -p $(@D)
	$(CXX) $(CXXFLAGS) -c -o $@ $<
-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)

# ---- tests -------------------------------------------------------------------------------------
# tests/*/*_test.c: one Criterion program each, linked with every library.
TEST_SRC := $(wildcard tests/*/*_test.c)
TEST_LIB_OBJ := $(call obj,$(wildcard tests/lib/*.c))
TEST_BIN := $(patsubst tests/%.c,$(BUILD)/tests/%,$(TEST_SRC))
$(BUILD)/tests/%: $(BUILD)/obj/tests/%.c.o $(TEST_LIB_OBJ) $(LIBS)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) -Wl,--start-group $(LIBS) -Wl,--end-group $(LDLIBS) -lcriterion
unit: $(TEST_BIN) ## build and run the unit tests only
	BUILD=$(BUILD) tests/lib/run-unit $(TEST_BIN)

# ---- fuzz targets (clang, libFuzzer): tests/fuzz/*_fuzz.c ------------------------------------------
FUZZ_SRC := $(wildcard tests/fuzz/*_fuzz.c)
FUZZ_BIN := $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/%,$(FUZZ_SRC))

clean: ## remove what was built
	rm -rf build
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort -u | expand -t 16
