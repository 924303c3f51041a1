# make help lists the targets.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# Without bytecode, each of the many processes of a sweep and of the tests compiles its libraries anew, for seconds.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup ray sweep test oldest test-gpu engines faults benchmarks check ui server data notebook plan reference findings lock clean clean-results
.DEFAULT_GOAL := help

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## a .venv with exactly the pinned packages (free when nothing changed)

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@# uv, itself from the lock, installs the locked files several times faster; pip does where uv cannot.
	awk '/^uv==/ {found = 1} found {print} found && !/\\$$/ {exit}' requirements.lock > .venv/uv.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r .venv/uv.lock || true
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock \
		|| $(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

ray: $(READY) ## the extra stridelab[ray], 75 MB, for launcher=ray and its tests
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --require-hashes -r requirements-ray.lock

sweep: $(READY) ## the main job: where to put two strides of 2: three plans, seven seeds, real images; then the comparison
	$(BIN)/python train.py -m 'model.strides=[1,2,2],[2,1,2],[2,2,1]' seed=0,1,2,3,4,5,6 sweep.margin=1

plan: $(READY) ## geometry and cost of the same three plans, without training
	$(BIN)/python scripts/plan.py 'model.strides=[1,2,2],[2,1,2],[2,2,1]'

TESTERS ?= 3

test: $(READY) ## the tests, in TESTERS processes
	$(BIN)/python -m pytest -n $(TESTERS) --dist loadfile --no-loadscope-reorder --ignore tests/engines --ignore tests/gpu

oldest: $(READY) ## the tests with the oldest packages that pyproject.toml allows, in .venv-oldest
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-oldest
	$(BIN)/uv pip install --quiet --python .venv-oldest/bin/python --resolution lowest-direct --editable '.[dev]'
	.venv-oldest/bin/python -m pytest -o filterwarnings=ignore -n $(TESTERS) --dist loadfile --no-loadscope-reorder --ignore tests/engines --ignore tests/gpu

test-gpu: $(READY) ## what only a GPU shows, on one card (six minutes at most; without one, all of it is skipped)
	$(BIN)/python -m pytest --durations 15 tests/gpu tests/test_augmentation.py tests/test_data_batches.py

engines: ray ## the same sweep on a real Ray and a real Slurm (Debian's slurm-wlm and munge, as root), whatever dies (about 10 minutes)
	STRIDELAB_FAULTS=all $(BIN)/python -m pytest -n $(TESTERS) --dist loadfile --no-loadscope-reorder tests/engines

faults: $(READY) ## every fault that is injected (kills, full disks, dead servers), in all networks; slow twins of tests (about 20 minutes)
	STRIDELAB_FAULTS=all $(BIN)/python -m pytest tests/faults tests/test_tracking_mirror.py
	$(BIN)/python -m pytest -m faults --ignore tests/faults

benchmarks: $(READY) ## what the developers measure, and how: one section after the other is called for
	$(BIN)/python -m benchmarks

check: $(READY) ## formatting, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

ui: $(READY) ## the MLflow pages of results/, on 127.0.0.1
	$(BIN)/python scripts/runs.py ui

server: $(READY) ## a tracking server for a team on 127.0.0.1, with PostgreSQL behind it; Ctrl-C ends it
	$(BIN)/python scripts/server.py

data: $(READY) ## the full Fashion-MNIST, where it can be had
	$(BIN)/python scripts/get_data.py data=fashion_mnist

notebook: $(READY) ## write the comparison of the latest sweep again
	$(BIN)/python scripts/compare.py sweep=latest

EXPERIMENT ?= detail

reference: $(READY) ## train EXPERIMENT=... (what is missing of it) and keep its tables in results/reference/
	$(BIN)/python train.py experiment=$(EXPERIMENT) sweep.name=$(EXPERIMENT)
	$(BIN)/python -m evidence reference $(EXPERIMENT)

findings: $(READY) ## write docs/findings.md and its figures again from results/reference/
	$(BIN)/python -m evidence findings

lock: ## resolve pyproject.toml into requirements.lock again
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 \
		--generate-hashes --no-header --quiet --output-file requirements.lock
	@# Of Ray only what requirements.lock does not have: nobody who needs no cluster installs it.
	printf 'ray\nmsgpack\n' | $(BIN)/uv pip compile - --no-deps --universal --python-version 3.11 \
		--generate-hashes --no-header --no-annotate --quiet --output-file requirements-ray.lock

clean: ## remove caches and the .venv, never results
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

clean-results: ## remove everything generated under results/, except results/reference
	find results -mindepth 1 -maxdepth 1 ! -name reference -exec rm -rf {} +
