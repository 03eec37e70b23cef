# Every target sets up what it needs: `make demo` or `make test` alone works on a fresh clone with Python 3.11 or later.
PYTHON ?= python3
VENV := .venv
BENCH_VENV := .venv-bench
JUDGE_VENV := .venv-judge
COREAI_VENV := .venv-coreai
SHELL := /bin/bash
# What Python compiles, and pytest rewrites, is kept: each worker and each command that a test starts would do it again.
unexport PYTHONDONTWRITEBYTECODE
.SHELLFLAGS := -o pipefail -c

ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif
READY := $(VENV)/.ready
DEMO_READY := $(VENV)/.demo-ready
BENCH_READY := $(BENCH_VENV)/.ready
JUDGE_READY := $(JUDGE_VENV)/.ready
COREAI_READY := $(COREAI_VENV)/.ready

# The stand-in for Core ML's native binding that lets Apple's tests run elsewhere: where it lies, unless the caller says.
COREPROOF_APPLE_SUITE ?= $(wildcard ../shared/conformance/apple)
ifneq ($(COREPROOF_APPLE_SUITE),)
export COREPROOF_APPLE_SUITE
endif

# What an ML Program can express of the ONNX project's backend tests, a row a test.
COREPROOF_ONNX_TESTS ?= $(wildcard ../shared/conformance/onnx_backend_tests.csv)
ifneq ($(COREPROOF_ONNX_TESTS),)
export COREPROOF_ONNX_TESTS
endif

# Models and photos that the notebooks use where they are there: see notebooks/material.py.
COREPROOF_DATA ?= $(abspath $(wildcard ../shared/data))
ifneq ($(COREPROOF_DATA),)
export COREPROOF_DATA
endif

.DEFAULT_GOAL := help
.PHONY: help setup demo screenshots test test-thorough test-all coverage lint stubs docs notebooks bench conformance-apple conformance-onnx conformance-quick conformance-coreai conformance-coreai-torch conformance-files conformance-torch conformance-families fuzz fuzz-quick fuzz-models clean

help: ## Say what there is to make.
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 22

setup: $(READY) ## Make .venv with the pinned packages.

# torch comes first and alone: asked for by its pin, pip takes the build the index has for this machine and later keeps it.
# pip would compile 17,000 files, of which a third is ever imported: Python compiles those when it imports them first.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "coreproof needs Python 3.11 or later; say which: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[torch,view,demo,dev,docs,ray,judges]'
	@touch $@

# The demo needs a third of the packages, and nobody should wait for the others; where all are there, they serve.
$(DEMO_READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "coreproof needs Python 3.11 or later; say which: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[torch,demo]'
	@touch $@

demo: $(if $(wildcard $(READY)),$(READY),$(DEMO_READY)) ## Prove EfficientNet-Lite0 on real photos; writes build/demo/index.html and build/demo/proof.json.
	$(BIN)/python examples/demo.py

screenshots: demo ## Take the docs' pictures of the demo's page, in headless Chromium; writes docs/images/page.png.
	$(BIN)/python -m conformance.screenshots

test: $(READY) ## Run the tests that guard each change, in less than eight minutes.
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not thorough" $(ARGS)

test-thorough: $(READY) ## Run the other tests: the rest of the sweeps, and what judges more than it guards.
	$(BIN)/python -m pytest -n auto --dist worksteal -m "thorough" $(ARGS)

test-all: $(READY) ## Run all tests at once.
	$(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

# Not part of CI: measuring takes about half as long again as the tests.
coverage: $(READY) ## Run all tests and say which share of the lines they reach; build/coverage/html shows which.
	@mkdir -p build/coverage
	$(BIN)/python -m pytest -n auto --dist worksteal --cov --cov-report=term --cov-report=html $(ARGS)

lint: $(READY) ## Check style, format and types.
	$(BIN)/python -m ruff check src tests benchmarks examples conformance typings
	$(BIN)/python -m ruff format --check src tests benchmarks examples conformance typings
	$(BIN)/python -m mypy

stubs: $(READY) ## Write typings/ anew: what mypy knows of Core ML's protobuf classes, from the installed coremltools.
	$(BIN)/python typings/generate.py

$(BENCH_READY): benchmarks/requirements.txt
	$(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/python -m pip install --quiet --constraint benchmarks/requirements.txt torch
	$(BENCH_VENV)/bin/python -m pip install --quiet --requirement benchmarks/requirements.txt
	@touch $@

notebooks: $(READY) ## Run the notebooks from top to bottom; writes build/notebooks/*.html.
	$(BIN)/python notebooks/render.py $(ARGS)

docs: $(READY) ## Build the documentation site into build/site; a warning is an error.
	$(BIN)/python docs/hooks/build.py

bench: $(READY) $(BENCH_READY) ## Measure conversion and latency beside the peers; writes benchmarks/RESULTS.md.
	$(BIN)/python -m benchmarks.bench --peers $(BENCH_VENV)/bin/python $(ARGS)

$(JUDGE_READY): conformance/requirements.txt
	$(PYTHON) -m venv $(JUDGE_VENV)
	$(JUDGE_VENV)/bin/python -m pip install --quiet --constraint conformance/requirements.txt torch
	$(JUDGE_VENV)/bin/python -m pip install --quiet --requirement conformance/requirements.txt
	@touch $@

conformance-apple: $(READY) $(JUDGE_READY) ## Let Apple's own tests judge what is lowered from Core ML.
	$(BIN)/python -m conformance.apple --python $(CURDIR)/$(JUDGE_VENV)/bin/python $(ARGS)

conformance-quick: $(READY) ## Slices of the ONNX backend tests and of Apple's, in the project's own environment.
	@$(BIN)/python -W ignore -m conformance.onnx_backend --every 16 & first=$$!; \
	$(BIN)/python -m conformance.apple --slice; second=$$?; \
	wait $$first && exit $$second

conformance-onnx: $(READY) ## Let the ONNX backend tests judge what is converted to Core ML.
	$(BIN)/python -m conformance.onnx_backend $(ARGS)

# Apple's package is of 190 MB, and for Linux on x86-64 and Apple silicon alone: no other target brings it.
conformance-coreai: $(READY) ## Let Apple's own interpreter of Core AI judge what is lowered from it and translated to it; installs coreai-core into .venv.
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[coreai]'
	$(BIN)/python -m pytest tests/model/coreai tests/conversion/coreai_to_onnx tests/conversion/mil_to_coreai tests/runtime/test_coreai.py $(ARGS)

$(COREAI_READY): conformance/coreai-requirements.txt pyproject.toml
	$(PYTHON) -m venv $(COREAI_VENV)
	$(COREAI_VENV)/bin/python -m pip install --quiet --constraint conformance/coreai-requirements.txt torch
	$(COREAI_VENV)/bin/python -m pip install --quiet --requirement conformance/coreai-requirements.txt --editable '.[coreai]'
	@touch $@

# COREPROOF_COREAI_TORCH_TESTS names a checkout of apple/coreai-torch.
conformance-coreai-torch: $(COREAI_READY) ## Let Apple's own tests of coreai-torch judge what is lowered from Core AI.
	$(COREAI_VENV)/bin/python -m conformance.coreai_torch $(ARGS)

conformance-files: $(READY) ## Let small ONNX files of others judge conversion and verify; COREPROOF_DATA names their folder.
	$(BIN)/python -W ignore -m conformance.small_files $(ARGS)

conformance-torch: $(READY) ## Let PyTorch's own operator database judge conversion and verify, one sample an operator.
	$(BIN)/python -W ignore -m conformance.torch_operators $(ARGS)

conformance-families: $(READY) ## Let model families of timm, transformers and torchvision judge conversion; needs timm and transformers.
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --requirement conformance/families-requirements.txt
	$(BIN)/python -W ignore -m conformance.model_families $(ARGS)

# MINUTES=30 goes on for so long; build/fuzz.json keeps what is known, and the next run goes on behind it.
fuzz: $(READY) ## Try damaged files of every kind with every verb, MINUTES=10 or so; failures stand in build/fuzz.md.
	$(BIN)/python -W ignore -m conformance.fuzz --minutes $(or $(MINUTES),10) --seed $(or $(SEED),1) --jobs $(or $(JOBS),2) \
		--json build/fuzz.json --report build/fuzz.md $(ARGS)

fuzz-quick: $(READY) ## The same with a fixed number of mutants, about a minute; fails if any of them fails.
	$(BIN)/python -W ignore -m conformance.fuzz --count 500 --seed 2 --jobs 2 $(ARGS)

fuzz-models: $(READY) ## Convert random graphs drawn by NNSmith, and hold numbers and verdicts against ONNX Runtime.
	$(BIN)/python -W ignore -m conformance.random_graphs $(ARGS)

clean: ## Remove what was made here, the environments too.
	rm -rf build dist $(VENV) $(BENCH_VENV) $(JUDGE_VENV) $(COREAI_VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
