// Asks a second evaluator for the decision of every row that the examples `policy_decisions` and `policy_actions`
// print, and fails where the two differ. A line `{name, policies}` gives policies a name, which later rows use; the
// last line is `{end: NUMBER OF ROWS}`, so that a run that broke off is not taken for a short one.
import { createInterface } from 'node:readline'
import { runUnsafeSimulation } from '@cloud-copilot/iam-simulate'

const DECISIONS = { Allowed: 'Allow', ExplicitlyDenied: 'Deny', ImplicitlyDenied: 'NotApplicable' }

// Two things that only this evaluator knows. AWS answers GetCallerIdentity whatever a policy says:
// https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html
// A KMS key has a policy of its own, without which nothing is allowed; there is none here:
// https://docs.aws.amazon.com/kms/latest/developerguide/key-policies.html
const isKnown = (row, result) =>
  (row.action === 'sts:GetCallerIdentity' && result === 'Allowed') ||
  (/^arn:[^:]+:kms:.*:key\//.test(row.resource) && row.decision === 'Allow' && result === 'ImplicitlyDenied')

const policies = {}
let rows = 0
let differing = 0
let known = 0
let end
for await (const line of createInterface({ input: process.stdin })) {
  const row = JSON.parse(line)
  if (row.name !== undefined) {
    policies[row.name] = identityPolicies(row.policies)
    continue
  }
  if (row.end !== undefined) {
    end = row.end
    continue
  }
  // The checking entrance refuses what its data of services does not list yet, such as new condition keys.
  const result = runUnsafeSimulation(
    {
      request: {
        principal: row.principal,
        action: row.action,
        resource: { resource: row.resource, accountId: row.account },
        contextVariables: row.context,
      },
      identityPolicies: policies[row.policies] ?? identityPolicies(row.policies),
      serviceControlPolicies: [],
      resourceControlPolicies: [],
    },
    {},
  )
  rows += 1
  if (DECISIONS[result] === row.decision) {
    continue
  }
  if (isKnown(row, result)) {
    known += 1
  } else {
    differing += 1
    console.error(`${row.id}: ${row.decision} here, ${result} there`)
  }
}
if (rows === 0 || rows !== end || differing > 0) {
  console.error(`${differing} of ${rows} rows differ; there should be ${end ?? 'more'}`)
  process.exit(1)
}
const exceptions = known > 0 ? `, except ${known} whose reason is known (GetCallerIdentity, KMS keys)` : ''
console.log(`both evaluators decide all ${rows} rows alike${exceptions}`)

function identityPolicies(documents) {
  return documents.map((policy, i) => ({ name: `policy-${i}`, policy }))
}
