# make help | setup | build | demo | test | asan | tsan | format | install | clean.  Each does all the set-up it needs.
PRESET ?= release
BUILD := build/$(PRESET)
PREFIX ?= /usr/local

.PHONY: help setup build test demo asan tsan format install clean
.DEFAULT_GOAL := help

help:
	@echo "make setup    install what the build needs (Debian packages, LibTorch into .deps)"
	@echo "make build    set-up, then build (PRESET=release, debug, asan or tsan)"
	@echo "make demo     set-up, build, then the main job: two ranks train, one is killed, the job resumes (2 minutes)"
	@echo "make test     set-up, build, all tests"
	@echo "make asan     torch-free tests under the address and undefined behaviour sanitizers"
	@echo "make tsan     torch-free tests under the thread sanitizer"
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
	@$$(cmake/find-python) examples/demo/demo.py --bin $(BUILD)/bin

test: build
	@.ci/run-tests $(BUILD)

asan:
	@$(MAKE) --no-print-directory test PRESET=asan

tsan:
	@$(MAKE) --no-print-directory test PRESET=tsan

format:
	@git ls-files "*.h" "*.cpp" | xargs clang-format -i

install: build
	@cmake --install $(BUILD) --prefix $(PREFIX)

clean:
	@rm -rf build
