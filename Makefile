# The commands of the README. `make help` lists them.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
DESK := samples/desk_assistant
RESULTS := docs/benchmarks
BENCH_RECIPE ?= $(DESK)/recipe.toml
GENERAL_RECIPE ?= samples/general/recipe.toml

.PHONY: help setup demo bundle test bench test-optimum fuzz fuzz-service check lint types train tutorial
.PHONY: kills bench-train bench-hints bench-strangers bfcl train-general evidence evidence-quick evidence-costs evidence-sets evidence-boundaries evidence-tools evidence-servers granularity load pictures profiles clean soak long calls catalogs bench-adapters second-model bench-llamacpp

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(READY): pyproject.toml .ci/constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")' >&2
	@echo "setting up .venv (torch, onnxruntime-genai, …): a few minutes the first time" >&2
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv >&2
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c .ci/constraints.txt -e '.[dev]' >&2
	@touch $@

setup: $(READY)  ## Make .venv

demo: $(READY)  ## Weights, bundle, five MCP servers, a dozen checked requests
	@$(BIN)/python $(DESK)/demo.py

bundle: $(READY)  ## Build the sample's bundle; its path is the last line
	@$(BIN)/python $(DESK)/bundle.py

test: $(READY)  ## All tests, with the real model and the real servers
	@$(BIN)/python tests/prepare.py >&2
	@$(BIN)/python -m pytest

calls: $(READY)  ## A warm call on one KV cache against no reuse and against transformers + PEFT
	@$(BIN)/python tests/bench/calls.py $$($(MAKE) -s bundle) --out $(RESULTS)/calls.json

catalogs: $(READY)  ## What a larger catalog costs: make catalogs TOOLS=folder of <tool_set>.json
	@test -n "$(TOOLS)" || { echo "make catalogs TOOLS=folder of <tool_set>.json files" >&2; exit 2; }
	@$(BIN)/python tests/bench/catalogs.py $$($(MAKE) -s bundle) $(TOOLS) --out $(RESULTS)/catalogs.json

soak: $(READY)  ## 2,000 calls on one agent: memory, speed, 16 conversations at once
	@$(BIN)/python tests/bench/soak.py $$($(MAKE) -s bundle) --out $(RESULTS)/soak.json

long: $(READY)  ## Long property, interleaving and fault tests (AGENTFLUX_TOOLS=folder: its schemas, too)
	@AGENTFLUX_LONG=1 $(BIN)/python -m pytest tests/sdk/contracts/test_grammar_property.py \
		tests/export/test_interleavings.py tests/sdk/orchestration/test_faults.py

bench: $(READY)  ## What LoRA branches cost on this machine (minutes; not part of the tests)
	@$(BIN)/python tests/bench/graphs.py

bench-adapters: $(READY)  ## Forty adapters: time and memory of the export, time to open the bundle
	@$(BIN)/python tests/bench/adapters.py

second-model: $(READY)  ## Qwen2.5-Coder-0.5B with two adapters through the whole export, certified (needs 6 GiB)
	@$(BIN)/python tests/bench/second_model.py --out $(RESULTS)

bench-llamacpp: $(READY)  ## Against llama.cpp (compiled the first time); with TOOLS=folder also whole calls
	@$(BIN)/python tests/bench/llamacpp_speed.py "$$($(BIN)/python $(DESK)/bundle.py)"
	@test -z "$(TOOLS)" || $(BIN)/python tests/bench/llamacpp_call.py \
	  "$$($(BIN)/python $(DESK)/bundle.py)" "$(TOOLS)" filesystem,git,memory,sqlite,time

test-optimum: $(READY)  ## Architectures that only optimum exports, in an environment of its own
	@test -x .venv-optimum/bin/python || $(PYTHON) -m venv .venv-optimum >&2
	@.venv-optimum/bin/python -m pip install -q --disable-pip-version-check 'torch==2.13.0' '.[optimum]' >&2
	@AGENTFLUX_OPTIMUM_PYTHON=.venv-optimum/bin/python $(BIN)/python -m pytest -q tests/export/test_optimum.py

fuzz: $(READY)  ## 2,000 damaged bundles and adapters: refused with a clear error, or unchanged
	@AFX_FUZZ_CASES=$${AFX_FUZZ_CASES:-1000} $(BIN)/python -m pytest -q tests/export/fuzz

lint: $(READY)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports

types: $(READY)
	@$(BIN)/mypy
	@$(BIN)/pyright

check: lint types test  ## The whole gate: format, lint, imports, types, tests

kills: $(READY)  ## Kill a training job at 20 random moments, compare the weights
	@AFX_KILLS=20 $(BIN)/python -m pytest -q tests/train/test_resume.py

bench-train: $(READY)  ## Prefix-cached against plain training: speed, gradients, memory (after `make train`'s data)
	@$(BIN)/python tests/bench/train_prefix.py $(BENCH_RECIPE) --only args.time --batches 8 \
	  --plain-batches 2 --out $(RESULTS)/train-args-time.json
	@$(BIN)/python tests/bench/train_prefix.py $(BENCH_RECIPE) --only select.filesystem --plain-rows 2 \
	  --out $(RESULTS)/train-select-filesystem.json
	@$(BIN)/python tests/bench/train_prefix.py $(BENCH_RECIPE) --only route --peak-examples 120 \
	  --out $(RESULTS)/train-route.json

bench-hints: $(READY)  ## Model, words, both: on servers kept out of training (after `make train-general`'s data)
	@$(BIN)/python tests/bench/hints.py "$$($(BIN)/python $(DESK)/bundle.py)" --out $(RESULTS)/hints.json

bench-strangers: $(READY)  ## A server that nobody trained for beside the known five (after `make train`'s data)
	@$(BIN)/python tests/bench/strangers.py "$$($(BIN)/python $(DESK)/bundle.py)" --out $(RESULTS)/strangers.json

bfcl: $(READY)  ## BFCL: 100 rows of each of three categories, judged by its own checker
	@$(BIN)/python tests/bench/bfcl.py "$$($(BIN)/python $(DESK)/bundle.py)" --limit 100 --out $(RESULTS)/bfcl.json

evidence: $(READY)  ## Base in three ways, joint, matched, decoupled on one tool set, exported and asked (long)
	@$(BIN)/python tests/bench/evidence.py --save $(RESULTS)/evidence.json

evidence-quick: $(READY)  ## The decoupled row with a third of the examples, trained and marked again
	@$(BIN)/python tests/bench/evidence.py --row decoupled --out runs/evidence-quick \
	  --recipe tests/bench/recipes/evidence-quick.toml

evidence-costs: $(READY)  ## Seconds, tokens and bytes a decision of each row of `make evidence`, asked in turns
	@$(BIN)/python tests/bench/evidence_costs.py --save $(RESULTS)/evidence-costs.json

evidence-sets: $(READY)  ## Joint, matched, decoupled on the sample's other four tool sets (four hours)
	@$(BIN)/python tests/bench/evidence_sets.py --row base --row joint --row matched --row decoupled \
	  --row sample --save $(RESULTS)/evidence-sets.json

evidence-boundaries: $(READY)  ## The same on two of them, the decoupled pair from each boundary (two hours)
	@$(BIN)/python tests/bench/evidence_sets.py --tool-set memory --tool-set time --row joint \
	  --row matched --row instruction --row decoupled --row prompt \
	  --save $(RESULTS)/evidence-boundaries.json

evidence-tools: $(READY)  ## Tools that four sets got after training: adapters alone, and the words heard (two hours)
	@$(BIN)/python tests/bench/evidence_tools.py --save $(RESULTS)/evidence-tools.json

evidence-servers: $(READY)  ## Joint, matched, decoupled on servers that none was trained for (an hour)
	@$(BIN)/python tests/bench/evidence_servers.py --save $(RESULTS)/evidence-servers.json

granularity: $(READY)  ## Argument writers for all tools, with a delta, for a set, for a tool (an hour)
	@$(BIN)/python tests/bench/granularity.py --save $(RESULTS)/granularity.json

train: $(READY)  ## Train the sample's adapters further: a pass of an hour on two cores
	@$(BIN)/python $(DESK)/train.py

train-general: $(READY)  ## Train the adapters for tools that nobody trained for, further
	@$(BIN)/python $(DESK)/train.py $(GENERAL_RECIPE)

fuzz-service: $(READY)  ## The service: 5,000 requests by its OpenAPI document, 10,000 bodies, 20 killed runs
	@AFX_FUZZ_EXAMPLES=600 AFX_FUZZ_BODIES=10000 AFX_CRASH_RUNS=20 AFX_CRASH_KILLS=8 \
	  $(BIN)/python -m pytest tests/service/test_fuzz.py tests/service/test_crash.py

tutorial: $(READY)  ## docs/tutorial.md from the first to the last command, with its training
	@AFX_TUTORIAL=1 $(BIN)/python -m pytest tests/docs/test_tutorial.py

load: $(READY)  ## The service: 32 clients for five minutes
	@$(BIN)/python tests/bench/service_load.py "$$($(BIN)/python $(DESK)/bundle.py)" \
	  --out $(RESULTS)/edge-service-load.json

pictures: $(READY)  ## The service's page in a browser, the README's picture among them, into runs/pictures
	@$(BIN)/python tests/bench/service_pictures.py "$$($(BIN)/python $(DESK)/bundle.py)" runs/pictures

profiles: $(READY)  ## Export the sample for every device profile and check each graph (slow)
	@$(BIN)/python tests/bench/profiles.py

clean:  ## Remove the environment and build leftovers (the cache folder stays)
	rm -rf .venv .venv-optimum dist build
