# Two commands: `make serve` sets everything up and serves; `make test` runs everything that needs no GPU.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PARALLEL := -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: serve glm mcp mcpb wheels check test test-long lint lock docs pictures bench bench-overhead bench-check train-sketch image-test gpu-pack clean help
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

# --no-deps: the lock is whole, and pip before 23.3 would resolve `pydantic[email]` past it to a newer, unpinned one.
$(STAMP): requirements/dev.txt pyproject.toml mcp_front/pyproject.toml imagegen_client/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.12 …")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . -e imagegen_client -e mcp_front
	touch $@

serve: $(STAMP) ## set up what is missing, then serve on http://127.0.0.1:8765
	exec $(BIN)/imagegen serve

glm: $(STAMP) ## the packages of the second engine (GLM-Image); a CPU's torch has to be there before: docs/engine.md
	$(BIN)/pip install --disable-pip-version-check --no-build-isolation -e '.[glm]'

mcp: $(STAMP) ## the MCP front on stdio
	exec $(BIN)/imagegen-mcp

mcpb: $(STAMP) ## the Claude Desktop bundle
	$(BIN)/python mcp_front/bundle/build.py

wheels: $(STAMP) ## wheels and source archives of service, client and front, in ./dist
	for project in . imagegen_client mcp_front; do $(BIN)/python -m build --no-isolation --outdir dist $$project || exit 1; done

check: lint ## lint, and the tests of parts and of the contract: some minutes
	$(BIN)/imagegen engine build --backend cpu
	$(BIN)/python -m pytest $(PARALLEL) -m "(unit or contract) and not long" $(PYTEST_ARGS)

test: $(STAMP) ## everything that a change must pass, on the real engine, without a GPU
	$(BIN)/imagegen engine build --backend cpu
	$(BIN)/python -m pytest $(PARALLEL) $(PYTEST_ARGS)

test-long: $(STAMP) ## before a release: every kill, an hour of chaos, the vision tower, the container (Podman, as root)
	$(BIN)/imagegen engine build --backend cpu
	$(BIN)/python -m pytest -m long $(PYTEST_ARGS)
	$(BIN)/python -m pytest -x -v tests/image/proof.py

lint: $(STAMP) ## ruff, types, the packages' layers, generated docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python tools/generate_docs.py --check

lock: $(STAMP) ## compile the hash-pinned requirements
	for set in base dev engine cuda; do $(BIN)/uv pip compile --quiet --universal -p 3.11 --generate-hashes --no-header \
	  --no-emit-index-url requirements/$$set.in -o requirements/$$set.txt; done

docs: $(STAMP) ## write the generated tables in docs/
	$(BIN)/python tools/generate_docs.py

pictures: $(STAMP) ## make the pictures in docs/ anew, from the service that runs on port 8765 (needs Chromium)
	$(BIN)/python docs/pictures.py

bench: bench-overhead ## all benchmarks
	$(BIN)/python benchmarks/http_load.py
	$(BIN)/python benchmarks/coldstart.py
	$(BIN)/python benchmarks/idle_policy.py --beta 60

bench-overhead: $(STAMP) ## the price of the service against the engine driven directly: prints `ratio N`
	$(BIN)/python benchmarks/overhead.py

bench-check: $(STAMP) ## exit 1 if a goal of docs/performance.md is missed
	$(BIN)/python benchmarks/check.py
	$(BIN)/python benchmarks/http_load.py --check

train-sketch: ## train the built-in model anew: hours on two cores, resumable (training/README.md)
	bash training/run.sh

image-test: $(STAMP) ## the container: built and run with Podman, as root (docs/deploy.md says what it needs)
	$(BIN)/python -m pytest -x -v tests/image/proof.py

gpu-pack: $(STAMP) ## collect in ./gpu-pack what a lent GPU machine without a network lacks (docs/gpu.md)
	bash benchmarks/gpu_offline.sh pack gpu-pack

clean: ## what can be made again (not the state folder)
	rm -rf $(VENV) dist build *.egg-info imagegen_client/build imagegen_client/*.egg-info mcp_front/build mcp_front/*.egg-info
