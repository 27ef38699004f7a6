# Everything is made below .tools/ and .venv/; any python3 that has venv and pip is enough to begin with.
# A second run of any verb starts at once: .tools/synced stands for "the environment is as requirements.lock says".

PYTHON ?= python3
UV     := .tools/boot/bin/uv
BIN    := .venv/bin

# the system's certificates, for networks that have an authority of their own
export UV_SYSTEM_CERTS ?= 1

.DEFAULT_GOAL := help
.PHONY: help sync lint type test e2e abuse escape fuzz properties bombs splits diffs bench openclaw demo docs wheel deploy all lock agents clean

help: ## this list
	@grep -E '^[a-z0-9]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9]+):.*## /  make \1\t/' | expand -t 16

sync: .tools/synced ## the environment: Python 3.13 and every package of requirements.lock, checked by hash

lint: .tools/synced ## ruff, rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: .tools/synced ## mypy, strict
	$(BIN)/mypy

test: .tools/synced ## the tests but the slow ones, ten to twenty minutes on 2 cores
	$(BIN)/pytest -m "not slow"

e2e: .tools/synced ## the slow tests: end to end, kill -9, exhaustive tampering
	$(BIN)/pytest -m slow

abuse: .tools/synced ## the corpus of attacks (tests/abuse) on every transport, as a table by class
	$(BIN)/python -m tests.abuse

escape: .tools/synced ## 250 ways out of an isolated job, each beside a control that leaves, and jobs and fences killed at random; needs root; 5 to 9 minutes
	$(BIN)/python -m tests.escape

fuzz: .tools/synced ## a million bodies and 100,000 paths: what left is what was judged, to every reader (BODIES=, PATHS=, SEED=)
	$(BIN)/python -m tests.fuzz --bodies $(or $(BODIES),1000000) --paths $(or $(PATHS),100000) --seed $(or $(SEED),1)

properties: .tools/synced ## the property tests with more examples, others each time (TIMES=); the usual runs repeat the same ones
	PROPERTY_TIMES=$(or $(TIMES),25) $(BIN)/pytest -m hypothesis

bombs: .tools/synced ## 250 bombs against a gateway of its own: what each is told, memory, clean calls meanwhile
	$(BIN)/python -m tests.gateway.bombs

agents: .tools/synced ## real agents from npm at pinned versions, on every way in, at a terminal, and under the contracts that their practice suggests; writes docs/agents.md (NAMES=, AGENTS_DIR=; installs 2 GB)
	$(BIN)/python -m tests.agents $(NAMES) $(if $(NAMES),,--page docs/agents.md)
	$(BIN)/pytest tests/agents/test_practice.py tests/agents/test_terminal.py

bench: .tools/synced ## the gateway beside stock mitmdump, as CPU per request (docs/performance.md)
	$(BIN)/python -m bench

splits: .tools/synced ## the tool gate on every stream of the corpus, cut at every byte
	SPLIT_STEP=1 $(BIN)/pytest tests/addons/test_tool_gate.py

diffs: .tools/synced ## contract diff against brute force on ten thousand pairs of contracts, half an hour (PAIRS=, SEED=)
	DIFF_PAIRS=$(or $(PAIRS),10000) DIFF_SEED=$(or $(SEED),1) $(BIN)/pytest tests/policies/test_contract_diff_brute.py

openclaw: .tools/synced ## the real OpenClaw, installed on demand: it takes what is rendered for it, and its audit finds nothing critical
	$(BIN)/python -m tests.agents.install openclaw
	$(BIN)/pytest tests/openclaw

demo: .tools/synced ## the whole story in a minute, without a network; leaves a bundle in .demo/
	$(BIN)/clawproxy demo

docs: .tools/synced ## rewrite the pages that are made from the code
	$(BIN)/python -m clawproxy.tokens.reasons_page > docs/reason-codes.md
	$(BIN)/python -m clawproxy.cli.commands_page > docs/commands.md
	$(BIN)/clawproxy contract schema > configs/contract.schema.json

wheel: .tools/synced ## dist/clawproxy-*.whl
	rm -rf build dist
	$(UV) build --quiet --wheel --no-build-isolation --python $(BIN)/python --out-dir dist .
	@ls dist/*.whl

deploy: .tools/synced .tools/deploy/synced ## lint what lies in configs/deploy, each by its own tool
	HELM=$(CURDIR)/.tools/deploy/bin/helm KUBERNETES_VALIDATE=$(CURDIR)/.tools/deploy/bin/kubernetes-validate \
		$(BIN)/pytest -q tests/deploy

all: lint type test e2e wheel demo ## everything that CI does, but the wheel's own test

lock: $(UV) ## resolve again: requirements.lock from pyproject.toml, keeping pins that still fit
	$(UV) pip compile --quiet --universal --python-version 3.13 --extra demo --extra bedrock --extra dlp --group dev --generate-hashes \
		--no-header --no-annotate --output-file requirements.lock pyproject.toml
	$(UV) pip compile --quiet --universal --python-version 3.13 --group deploy --generate-hashes \
		--no-header --no-annotate --output-file requirements-deploy.lock

clean: ## remove what make made
	rm -rf .tools .venv .demo build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(UV):
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
		echo "make: $(PYTHON) has no venv and pip; on Debian and Ubuntu: apt-get install python3 python3-venv" >&2; exit 2; }
	$(PYTHON) -m venv --clear .tools/boot
	.tools/boot/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9,<1'

.tools/synced: $(UV) requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(UV) venv --quiet --python 3.13 .venv
	$(UV) pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

.tools/deploy/synced: $(UV) requirements-deploy.lock
	@test -x .tools/deploy/bin/python || $(UV) venv --quiet --python 3.13 .tools/deploy
	$(UV) pip sync --quiet --python .tools/deploy/bin/python --require-hashes requirements-deploy.lock
	@touch $@
