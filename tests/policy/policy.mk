# Targets for the policy; the Makefile at the top includes this file.

SECOND_EVALUATOR := tests/policy/simulate
policy-example = cargo run --quiet --locked --all-features --example
policy-actions = node $(SECOND_EVALUATOR)/actions.mjs | $(policy-example) policy_actions -- docs/policy-actions.md

check: policy-cross-check

.PHONY: walk policy-cross-check policy-actions second-evaluator

walk: ## What a new user meets under the policy, step by step
	@$(policy-example) walk -- $(if $(ALL),--all)

policy-cross-check: second-evaluator ## Two evaluators on the policy: its test rows, its verdicts, every action of AWS
	$(policy-example) policy_decisions | node $(SECOND_EVALUATOR)/compare.mjs
	$(policy-example) policy_verdicts | node $(SECOND_EVALUATOR)/verdicts.mjs
	$(policy-actions) | node $(SECOND_EVALUATOR)/compare.mjs

policy-actions: second-evaluator ## Write docs/policy-actions.md after a change of the policy that is meant
	$(policy-actions) --write | node $(SECOND_EVALUATOR)/compare.mjs

# No package of it has to run anything when it is installed.
second-evaluator:
	@npm ci --ignore-scripts --silent --no-audit --no-fund --prefix $(SECOND_EVALUATOR)
