PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT := results/local
FUZZ_SECONDS ?= 20
UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
export UV_FIND_LINKS
unexport PYTHONDONTWRITEBYTECODE  # else each process compiles all that it imports
UV := VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet --constraint constraints.txt
INPUTS := pyproject.toml fonts/pyproject.toml constraints.txt Makefile

.PHONY: certify check house test test-long test-npu perf fuzz lint format docs examples release-tables clean
.DELETE_ON_ERROR:

$(BIN)/uv: constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt uv
	touch $@

$(VENV)/.base: $(BIN)/uv $(INPUTS)
	$(UV) --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.base
	$(UV) --editable '.[dev]'
	$(UV) --no-deps --group bindings --group clients
	touch $@

# A folder of its own, which only the tests of torch_npu put on their path: torch loads it wherever it is installed.
$(VENV)/.npu: $(VENV)/.dev
	$(UV) --no-deps --target $(VENV)/npu --group npu
	touch $@

# Each step prints the figures: those of verify, the last, are shown. A run ends with 1 where a figure is void.
certify: export PETASEAL_STATE := $(OUT)/state
certify: $(VENV)/.base  ## measure this machine, sign a statement, verify it
	rm -rf $(OUT)
	$(BIN)/petaseal keys new --no-passphrase --out $(OUT)/operator.pem >/dev/null
	$(BIN)/petaseal run --profile smoke --device cpu --precision fp16,fp32,fp64 --out $(OUT) >$(OUT)/run.txt || [ $$? -eq 1 ]
	$(BIN)/petaseal certify $(OUT) --centre demo --key $(OUT)/operator.pem --out $(OUT) >$(OUT)/certify.txt
	$(BIN)/petaseal verify $(OUT)/statement.dsse.json --public-key $(OUT)/operator.pem.pub \
	  --records $(OUT)/records.jsonl --samples $(OUT) --require audited
	@echo
	@echo "To look further:"
	@echo "  the page          $(OUT)/statement.html"
	@echo "  what was printed  $(OUT)/run.txt $(OUT)/certify.txt"
	@echo "  a reason code     $(BIN)/petaseal explain upcast"
	@echo "  the policy        $(BIN)/petaseal policy show guangzhou-2000p"
	@echo "  without petaseal  $(BIN)/python docs/independent_verifier.py $(OUT)/operator.pem.pub \\"
	@echo "                      $(OUT)/statement.dsse.json $(OUT)/records.jsonl"

# A part of the tests (tests/conftest.py), of those that a mark chooses: one after another, or on several processes.
# Those of real time wait for most of it: three at once take no more than a core.
part = $(BIN)/python -m pytest -m "$(1)" --part $(2)
several = $(call part,$(1),$(2)) --numprocesses $(3) --dist loadfile

check: $(VENV)/.dev lint  ## style, types, and the tests of what a change touches: two minutes
	$(BIN)/python -m tests.touched

test: $(VENV)/.dev lint  ## style, types and the tests, without the longest
	$(call several,not long,plain,3)
	$(call several,not long,realtime,4)
	$(call part,not long,alone)

test-long: $(VENV)/.dev  ## the longest tests: many kills, fuzzing, large files, all of Slurm
	# The city waits for most of its ten minutes, and leaves the others more of the machine than they leave one another.
	$(call part,long,background) & city=$$!; \
	$(call several,long,plain,3) && $(call several,long,realtime,4); others=$$?; \
	wait $$city && exit $$others
	$(call part,long,alone)

test-npu: $(VENV)/.npu  ## the real torch_npu over a fake Ascend runtime (x86-64, CPython 3.11); skipped elsewhere
	$(BIN)/python -m pytest --part npu  # one after another: a campaign among them must be steady

house: $(VENV)/.dev  ## how the house stands: folders, imports, functions, words
	$(BIN)/python -m tests.house

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

perf: $(VENV)/.dev  ## the project's own speed, as ratios from one interleaved run
	$(BIN)/python -m tests.perf

fuzz: $(VENV)/.dev  ## every parser under a coverage-guided fuzzer, FUZZ_SECONDS for each
	$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS)

docs: $(VENV)/.base  ## regenerate what is generated: JSON Schemas, reason codes
	$(BIN)/python docs/generate.py

examples: $(VENV)/.dev  ## make the examples of results/ anew, in two minutes; MEASURE=1: the CPU's figure too
	$(BIN)/python -m tests.examples $(if $(MEASURE),--measure)

release-tables: $(VENV)/.base  ## keep the ratings, policies and profiles of this version by their digests
	$(BIN)/python docs/release_tables.py

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache
