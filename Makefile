# make help | setup | build | demo | test | chaos | asan | tsan | bench-comm | format | install | clean.  Each does all the set-up it needs.
PRESET ?= release
BUILD := build/$(PRESET)
PREFIX ?= /usr/local
KILLS ?= 1000

.PHONY: help setup build demo test chaos asan tsan bench-comm format install clean
.DEFAULT_GOAL := help

help:
	@echo "make setup    install what the build needs (Debian packages, LibTorch into .deps)"
	@echo "make build    set-up, then build (PRESET=release, debug, asan or tsan)"
	@echo "make demo     set-up, build, then the main job: two ranks train, one is killed, the job resumes (2 minutes)"
	@echo "make test     set-up, build, all tests"
	@echo "make chaos    kills a training job at KILLS (default 1000) random instants and compares it with an undisturbed one"
	@echo "make asan     torch-free tests under the address and undefined behaviour sanitizers"
	@echo "make tsan     torch-free tests under the thread sanitizer"
	@echo "make bench-comm  all-reduce beside Gloo and Open MPI, some minutes; results in build/bench (ARGS=--help shows how to do less)"
	@echo "make format   clang-format every source"
	@echo "make install  into PREFIX (default /usr/local)"
	@echo "make clean    remove build/"

setup:
	@cmake/setup.sh

$(BUILD)/build.ninja: | setup
	@cmake --preset $(PRESET)

build: setup $(BUILD)/build.ninja
	@cmake --build $(BUILD)

demo: build
	@python=$$(cmake/find-python) && exec $$python examples/demo/demo.py --bin $(BUILD)/bin

test: build
	@.ci/run-tests $(BUILD)

chaos: build
	@DDP_BIN=$(BUILD)/bin python3 tests/e2e/chaos.py --kills $(KILLS)

asan:
	@$(MAKE) --no-print-directory test PRESET=asan

tsan:
	@$(MAKE) --no-print-directory test PRESET=tsan

bench-comm: build
	@python3 tests/bench/comm/bench_comm.py --build $(BUILD) $(ARGS)

format:
	@git ls-files "*.h" "*.cpp" | xargs clang-format -i

install: build
	@cmake --install $(BUILD) --prefix $(PREFIX)

clean:
	@rm -rf build
