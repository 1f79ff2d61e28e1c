# Targets for the infrastructure; the Makefile at the top includes this file. With DRY_RUN=1 a target
# reads and builds, and prints what it would change as commands that can be pasted.

# cargo-lambda and the zig it brings are found through the first python3 on the path.
INFRA_PATH := $(CURDIR)/$(VENV)/bin:$(CURDIR)/$(CHECK_VENV)/bin:$(PATH)
TEMPLATES := infra/template.yaml infra/organization.yaml infra/auditor.yaml infra/scp.yaml
# The record of what was decided for the organization.
ROLLOUT ?= rollout.json
# How often to look while waiting.
POLL_SECONDS ?= 5
# Parameters for `make deploy`: PARAMETERS='ExistingUsers=enforce ExemptUsers=a,b', and PARAMETERS_FILE=file.json.
PARAMETERS ?=
PARAMETERS_FILE ?=
SAM_BUILD := target/sam/build
# Values reach the program through the environment, so that no shell takes them apart.
export PARAMETERS PARAMETERS_FILE ROLLOUT
# The folder of a release, which is then deployed as it is, without a compiler.
RELEASE ?=
rollout = @PATH="$(INFRA_PATH)" python3 infra/rollout.py $(if $(DRY_RUN),--dry-run) --poll-seconds $(POLL_SECONDS) \
	$(if $(RELEASE),--release "$(RELEASE)")
run = $(if $(DRY_RUN),@echo '+ $(strip $(1))',PATH="$(INFRA_PATH)" SAM_CLI_TELEMETRY=0 $(1))

# Besides `validate`, which the Makefile names itself.
check: sam-build

.PHONY: package publish deploy deploy-org deploy-management rollout-status remove-org import-template release \
	validate sam-build

validate: $(CHECK_VENV)/.stamp ## Lint both templates and every policy in them
	$(call run, $(CHECK_VENV)/bin/cfn-lint $(TEMPLATES))
	$(call run, $(CHECK_VENV)/bin/python infra/lint_policies.py $(TEMPLATES))
	$(call run, $(CHECK_VENV)/bin/checkov --directory infra --framework cloudformation --skip-download --quiet --compact)

package: $(VENV)/.stamp ## Build the zips for arm64 and x86_64, the same commit giving the same bytes
	$(rollout) package

publish: $(VENV)/.stamp ## Build the zips and upload them to a bucket: BUCKET=name
	@test -n "$(BUCKET)" || { echo 'make publish needs BUCKET=name'; exit 2; }
	$(rollout) publish --bucket "$(BUCKET)"

sam-build: $(VENV)/.stamp $(CHECK_VENV)/.stamp ## Build the function as `make deploy` does
	$(call run, rustup target add aarch64-unknown-linux-gnu)
	$(call run, RUSTFLAGS="$$(PATH="$(INFRA_PATH)" python3 infra/rollout.py rust-flags)" sam build \
		--template infra/template.yaml --config-file $(CURDIR)/infra/samconfig.toml --build-dir $(SAM_BUILD))

deploy: $(if $(RELEASE),$(VENV)/.stamp,sam-build) ## Deploy to one account: PARAMETERS='Name=value ...', PARAMETERS_FILE=file.json, RELEASE=folder BUCKET=name
	$(rollout) deploy $(if $(RELEASE),--bucket "$(BUCKET)",--template $(SAM_BUILD)/template.yaml)

deploy-org: $(VENV)/.stamp ## Deploy to the organization what rollout.json says: CANARY=1, REMOVE=1, ROLLOUT=file.json
	$(rollout) deploy-org $(if $(CANARY),--canary) $(if $(REMOVE),--remove)

deploy-management: $(VENV)/.stamp ## Deploy the management account's own stacks, as `make deploy-org` says at its end
	$(rollout) deploy-management --artifact-bucket "$(ARTIFACT_BUCKET)" --alarm-topic-arn "$(ALARM_TOPIC_ARN)" \
		--template-key "$(TEMPLATE_KEY)" --code-key "$(CODE_KEY)"

rollout-status: $(VENV)/.stamp ## List every account that is not current, with the reason and what to do
	$(rollout) rollout-status

remove-org: $(VENV)/.stamp ## Delete the StackSets with their stacks: CONFIRM=organization-id, RETAIN=1 keeps the stacks
	$(rollout) remove-org --confirm "$(CONFIRM)" $(if $(RETAIN),--retain)

release: sbom $(VENV)/.stamp ## Write everything that a release consists of, with its sums, into dist/
	@PATH="$(INFRA_PATH)" python3 tools/build_release.py dist

import-template: $(VENV)/.stamp ## Write the template that takes policy and group of an earlier installation back
	$(rollout) import-template
