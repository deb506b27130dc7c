# Everything that this repository can do, by name: `make` alone lists it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory --no-builtin-rules
.SUFFIXES:

export SAM_CLI_TELEMETRY := 0
# `sam validate` refuses to work without a region, though it only looks at the file.
export AWS_DEFAULT_REGION ?= eu-west-1

# Virtual environments, each for one thing, since their pins do not get along with each other:
#   .venv          tests, checks, and the command lines: `make run`, tools/storesync
#   .venv-sam      the sam command
#   .venv-aws      the stand-in for AWS
#   .venv-lambda   what the Python runtime of AWS Lambda has, and nothing else
#   .venv-checkov  checks of the template
#   .venv-sdks     the providers' own SDKs, which read what we wrote
#   .venv-uv       the installer of the others
ENVIRONMENTS := .venv .venv-sam .venv-aws .venv-lambda .venv-checkov .venv-sdks
RUN_ENVIRONMENTS := .venv .venv-sam .venv-aws

ready = $(addsuffix /.ready,$(1))

# Installs what is missing of some environments, several at a time, in about half a minute.
install = $(MAKE) --question $(call ready,$(1)) >/dev/null 2>&1 || { \
  echo "Installing Python packages, into .venv* in this folder only:"; \
  $(MAKE) --silent --jobs=4 --output-sync=line $(call ready,$(1)); }

.venv/.ready:         requirements := requirements-dev.txt
.venv-sam/.ready:     requirements := tools/requirements/sam.txt
.venv-aws/.ready:     requirements := tools/requirements/aws.txt
.venv-lambda/.ready:  requirements := tools/requirements/lambda.txt
.venv-checkov/.ready: requirements := tools/requirements/checkov.txt
.venv-sdks/.ready:    requirements := tools/requirements/sdks.txt

.PHONY: help
help: ## this list
	@echo "make TARGET, where TARGET is one of:"
	@sed -n 's/^\([a-z][a-z0-9-]*\):.*## \(.*\)/  \1|\2/p' $(firstword $(MAKEFILE_LIST)) \
	  | while IFS='|' read -r name text; do printf '%-16s %s\n' "$$name" "$$text"; done
	@echo
	@echo "Python packages that a target needs are installed first, into .venv* in this folder."

# -- Set-up ----------------------------------------------------------------------------------------

.PHONY: setup
setup: ## install everything that tests, checks and `make run` need (once; no root)
	@$(call install,$(ENVIRONMENTS))
	@echo "Everything is installed. Next: make test, or make run."

.PHONY: setup-node
setup-node: ## install the providers' SDKs for Node.js, into tests/sdks/node only (npm; no root)
	@tools/setup-e2e --node

.PHONY: setup-e2e
setup-e2e: ## install real servers and SDKs for Node.js, for tests that need them (apt-get, npm; root)
	@tools/setup-e2e

# By their names too: `make .venv-sam`.
.PHONY: $(ENVIRONMENTS) .venv-uv
$(ENVIRONMENTS) .venv-uv: %: %/.ready

# The sam command needs a python3.13 with pip beside it, for src/Makefile; all get one.
$(call ready,$(ENVIRONMENTS)): .venv-uv/.ready tools/make-venv
	@python=$$(tools/find-python) && tools/make-venv $(@D) "$$python" $(requirements)
	@touch $@

.venv/.ready: requirements-dev.txt
.venv-sam/.ready: tools/requirements/sam.txt
.venv-aws/.ready: tools/requirements/aws.txt
.venv-lambda/.ready: tools/requirements/lambda.txt
.venv-checkov/.ready: tools/requirements/checkov.txt
.venv-sdks/.ready: tools/requirements/sdks.txt

# Without it the others take longer, no more, so its failure stops nothing.
.venv-uv/.ready: tools/requirements/uv.txt
	@python=$$(tools/find-python) && \
	  { tools/make-venv $(@D) "$$python" $< 2>/dev/null || echo "  no uv here: pip will do, slowly"; }
	@mkdir -p $(@D) && touch $@

# -- Checks ----------------------------------------------------------------------------------------

# Three files at a time, in the order of their folders: the slowest files have few tests, and come early.
# A quarter of the time, tests wait.
PYTEST := .venv/bin/pytest --numprocesses=3 --dist=loadfile --no-loadscope-reorder

.PHONY: test
test: ## all checks and tests; says what was skipped and why
	@$(call install,$(ENVIRONMENTS))
	@$(MAKE) lint
	$(PYTEST)

.PHONY: test-node-22
test-node-22: setup-node .venv/.ready ## the tests of Node.js once more, on the older of the layer's two versions
	LAMBDA_NODE=22 $(PYTEST) tests/node $(wildcard tests/sdks/test_node*.py) tests/sdks/test_handlers.py \
	  tests/differential/test_appconfig_node.py

.PHONY: exhaustive
exhaustive: .venv/.ready ## every interleaving of syncs with pins, expiry and lost writes: some six minutes
	$(PYTEST) --dist=load -m campaign tests/faults

.PHONY: fuzz
fuzz: .venv/.ready ## generated webhooks, flags and responses: 100,000 webhooks a provider, 2,000 examples a test
	$(PYTEST) --dist=worksteal --hypothesis-profile=whole -m "campaign or not campaign" tests/fuzz \
	  tests/unit tests/contract/test_providers.py

.PHONY: torture
torture: ## every promise at its full size, into docs/guarantees.md: about an hour (ONLY="T6 T28": on the screen)
	@$(call install,$(ENVIRONMENTS))
	PYTHONPATH=tests:src:. .venv/bin/python -m torture $(ONLY)

.PHONY: mutants
mutants: .venv/.ready ## mutmut on guard, signature, keys, pipeline and others, by hand (ONLY="storesync.guard*")
	.venv/bin/mutmut run $(if $(ONLY),"$(ONLY)") | tail -n 3
	@.venv/bin/mutmut results | sed '/: not checked$$/d'

.PHONY: differential
differential: .venv/.ready .venv-sdks/.ready ## our engines beside the providers' own: 100,000 cases each, and planted faults
	$(PYTEST) --dist=worksteal -m campaign tests/differential tests/sdks

.PHONY: conformance-data
conformance-data: .venv/.ready ## fetch the providers' own test data into .conformance-data, every byte checked
	.venv/bin/python tools/conformance_data.py .conformance-data

# tools/old-words: names that were replaced. Each thing has one name (docs/architecture.md).
.PHONY: lint
lint: .venv/.ready ## ruff, mypy, which module may import which, and names that were replaced
	@! grep -rnIEf tools/old-words --include='*.py' --include='*.md' --include='*.yaml' --include='*.json' --include='*.*js' \
	  --exclude-dir=node_modules *.md template.yaml src docs events examples local tests tools bench
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	PYTHONPATH=src .venv/bin/lint-imports --no-logo --no-cache

.PHONY: format
format: .venv/.ready ## write the code the way that ruff wants it
	.venv/bin/ruff check --fix-only
	.venv/bin/ruff format

.PHONY: e2e-unleash
e2e-unleash: ## from a real Unleash server to a flag that is read back, or served: some three minutes
	@$(call install,$(ENVIRONMENTS))
	.venv/bin/pytest -m campaign tests/e2e/test_unleash.py tests/e2e/test_serve.py tests/e2e/test_collect.py

.PHONY: e2e-deploy
e2e-deploy: ## deploy, update, roll back, publish, tools/smoke, on the stand-in for AWS: some three minutes
	@$(call install,$(ENVIRONMENTS))
	$(PYTEST) -m campaign --durations=5 tests/e2e/test_deploy.py tests/e2e/test_publish.py \
	  tests/e2e/test_run.py tests/e2e/test_smoke.py tests/build/test_release.py

.PHONY: validate
validate: .venv-sam/.ready .venv-checkov/.ready ## look for mistakes and risks in template.yaml
	.venv-sam/bin/sam validate --lint
	.venv-checkov/bin/checkov --file template.yaml --framework cloudformation --skip-download \
	  --compact --quiet

.PHONY: docs
docs: .venv/.ready ## write the generated tables of README.md and docs/configure.md
	PYTHONPATH=src:tests:. .venv/bin/python -m tools.pages

# -- Benchmarks -----------------------------------------------------------------------------------

BENCH := PYTHONPATH=src:tests:. .venv/bin/python -m bench

.PHONY: bench
bench: ## every measurement beside its peer, into docs/benchmarks.md: some twenty minutes on a quiet machine
	@$(call install,$(ENVIRONMENTS))
	$(BENCH) $(if $(ONLY),--only $(ONLY))

.PHONY: bench-quick
bench-quick: ## a taste of it with fewer rounds and sizes, on the screen only (ONLY="P1 P3" for some parts)
	@$(call install,$(ENVIRONMENTS))
	$(BENCH) --quick $(if $(ONLY),--only $(ONLY))

.PHONY: call-counts
call-counts: ## how many functions a sync and a read run (LIST=--list: which)
	@$(call install,.venv .venv-aws)
	PYTHONPATH=tests:src:. .venv/bin/python -m bench.call_counts $(LIST)

# -- Running and building --------------------------------------------------------------------------

.PHONY: run
run: ## the whole application here: no Docker, no AWS (STORE=redis PROVIDER=split LANGUAGE=node SERVE=1 KEEP=1)
	@$(call install,$(RUN_ENVIRONMENTS) $(if $(SERVE),.venv-sdks))
	@$(if $(filter node,$(LANGUAGE)),$(MAKE) setup-node)
	@.venv/bin/python -m local.run $(if $(KEEP),--keep) $(if $(PROVIDER),--provider=$(PROVIDER)) \
	  $(if $(STORE),--store=$(STORE)) $(if $(LANGUAGE),--language=$(LANGUAGE)) $(if $(SERVE),--serve)

.PHONY: invoke
invoke: .venv/.ready ## run both functions on a sample: no Docker, no AWS (EVENT=events/schedule.json)
	@PYTHONPATH=src:. .venv/bin/python -m local.invoke $(EVENT)

.PHONY: cli
cli: .venv/.ready ## install the command line for operators: tools/storesync (docs/cli.md)
	@tools/storesync --help

.PHONY: build
build: .venv-sam/.ready ## build the functions and both layers into .aws-sam/build
	PATH="$(CURDIR)/.venv-sam/bin:$$PATH" sam build

.PHONY: dist
dist: .venv/.ready .venv-sam/.ready ## build wheel, layers and functions into dist, the same bytes everywhere
	.venv/bin/python tools/dist.py

.PHONY: check-dist
check-dist: .venv/.ready .venv-sam/.ready ## build them again elsewhere, and compare with dist/SHA256SUMS
	.venv/bin/python tools/dist.py --check

.PHONY: sbom
sbom: .venv/.ready ## what is deployed, as CycloneDX: dist/sbom.json
	.venv/bin/python -m tools.sbom dist/sbom.json

.PHONY: lock
lock: .venv-uv/.ready ## pin the newest packages that the .in files allow, with their hashes
	@for file in src/requirements requirements-dev tools/requirements/{sam,aws,lambda,checkov,sdks,uv}; do \
	  echo "  $$file.txt"; \
	  .venv-uv/bin/uv pip compile --quiet --upgrade --universal --python-version 3.13 \
	    --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
	    --output-file "$$file.txt" "$$file.in"; \
	done

.PHONY: clean
clean: ## remove what was built, and caches; the virtual environments stay
	rm -rf .aws-sam dist mutants .hypothesis .mypy_cache .pytest_cache .ruff_cache src/.*_cache
	find src tests local tools bench -name node_modules -prune -o -name __pycache__ -prune -exec rm -rf {} +

.PHONY: distclean
distclean: clean ## remove the virtual environments as well
	rm -rf $(ENVIRONMENTS) .venv-uv
