# Verbs for the policy and the infrastructure; the Makefile at the top includes this file. DRY=1 shows the
# commands of a verb and runs none of them.

# cargo-lambda and the zig it brings are found through the first python3 on the path.
INFRA_PATH := $(CURDIR)/$(VENV)/bin:$(CURDIR)/$(CHECK_VENV)/bin:$(PATH)
TEMPLATES := infra/template.yaml infra/organization.yaml infra/auditor.yaml infra/scp.yaml
RELEASE := PATH="$(INFRA_PATH)" python3 infra/release.py $(if $(DRY),--dry-run)
# What CloudFormation is told to do, or with DRY=1 what it would be told.
run = $(if $(DRY),@echo '+ $(strip $(1))',PATH="$(INFRA_PATH)" SAM_CLI_TELEMETRY=0 $(1))
# The function's parameters for `make deploy`: PARAMETERS="ExistingUsers=enforce ExemptPaths=/service/".
PARAMETERS ?=
BUCKET ?=
CANARY ?=
CODE_KEY ?=
TEMPLATE_KEY ?=
ORG_PARAMETERS ?= organization-parameters.json
SAM_BUILD := target/sam/build

# Besides `validate`, which the Makefile names itself.
check: sam-build policy-cross-check

.PHONY: walk package publish deploy deploy-org validate sam-build policy-cross-check

walk: ## What a new user meets under the policy, step by step
	@cargo run --quiet --locked --all-features --example walk -- $(if $(ALL),--all)

policy-cross-check: ## The rows of the policy's tests, decided by a second evaluator too
	npm ci --silent --no-audit --no-fund --prefix tests/policy/simulate
	cargo run --quiet --locked --all-features --example policy-decisions | node tests/policy/simulate/compare.mjs

validate: $(CHECK_VENV)/.stamp ## Lint both templates and every policy in them
	$(call run, $(CHECK_VENV)/bin/cfn-lint $(TEMPLATES))
	$(call run, $(CHECK_VENV)/bin/sam validate --lint --template infra/template.yaml --region us-east-1)
	$(call run, $(CHECK_VENV)/bin/sam validate --lint --template infra/organization.yaml --region us-east-1)
	$(call run, $(CHECK_VENV)/bin/python infra/lint_policies.py $(TEMPLATES))
	$(call run, $(CHECK_VENV)/bin/checkov --directory infra --framework cloudformation --skip-download --quiet --compact)

package: $(VENV)/.stamp ## Build the zips for arm64 and x86_64, the same commit giving the same bytes
	@$(RELEASE) package

publish: $(VENV)/.stamp ## Build the zips and put them into a bucket: BUCKET=name
	@test -n "$(BUCKET)" || { echo 'make publish needs BUCKET=name'; exit 2; }
	@$(RELEASE) publish --bucket "$(BUCKET)"

sam-build: $(VENV)/.stamp $(CHECK_VENV)/.stamp ## Build the function as `make deploy` does
	$(call run, rustup target add aarch64-unknown-linux-gnu)
	$(call run, RUSTFLAGS="$$(python3 infra/release.py rust-flags)" sam build --template infra/template.yaml \
		--config-file $(CURDIR)/infra/samconfig.toml --build-dir $(SAM_BUILD))

deploy: sam-build ## Deploy to one account, through SAM: PARAMETERS="Name=value ..."
	$(call run, sam deploy --template $(SAM_BUILD)/template.yaml --config-file $(CURDIR)/infra/samconfig.toml \
		--parameter-overrides CodeBucket=set-by-sam CodeKey=set-by-sam.zip $(PARAMETERS))

deploy-org: $(VENV)/.stamp ## Deploy to the organization: ORG_PARAMETERS=file.json, CANARY=ou-id, CODE_KEY=, TEMPLATE_KEY=
	@$(RELEASE) deploy-org --parameters "$(ORG_PARAMETERS)" $(if $(CANARY),--canary "$(CANARY)") \
		$(if $(CODE_KEY),--code-key "$(CODE_KEY)") $(if $(TEMPLATE_KEY),--template-key "$(TEMPLATE_KEY)")
