// Asks a second evaluator for the decision of every row that the example `policy-decisions` prints, and
// fails where the two differ.
import { createInterface } from 'node:readline'
import { runUnsafeSimulation } from '@cloud-copilot/iam-simulate'

const DECISIONS = { Allowed: 'Allow', ExplicitlyDenied: 'Deny', ImplicitlyDenied: 'NotApplicable' }

let rows = 0
let differing = 0
for await (const line of createInterface({ input: process.stdin })) {
  const row = JSON.parse(line)
  // The checking entrance refuses what its data of services does not list yet, such as new condition keys.
  const result = runUnsafeSimulation(
    {
      request: {
        principal: row.principal,
        action: row.action,
        resource: { resource: row.resource, accountId: row.account },
        contextVariables: row.context,
      },
      identityPolicies: row.policies.map((policy, i) => ({ name: `policy-${i}`, policy })),
      serviceControlPolicies: [],
      resourceControlPolicies: [],
    },
    {},
  )
  rows += 1
  if (DECISIONS[result] !== row.decision) {
    differing += 1
    console.error(`${row.id}: ${row.decision} here, ${result} there`)
  }
}
if (rows === 0 || differing > 0) {
  console.error(`${differing} of ${rows} rows differ`)
  process.exit(1)
}
console.log(`both evaluators decide all ${rows} rows alike`)
