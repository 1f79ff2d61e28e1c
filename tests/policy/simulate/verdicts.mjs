// Asks the second evaluator what the policies do that the example `policy_verdicts` prints, and fails where the verdict
// is another. The calls are this file's own: everyday calls, those by which a user frees itself, and enrolling a device,
// in a console session without MFA.
import { createInterface } from 'node:readline'
import { runUnsafeSimulation } from '@cloud-copilot/iam-simulate'

const ACCOUNT = '123456789012'
const ADMINISTRATOR = { Version: '2012-10-17', Statement: [{ Effect: 'Allow', Action: '*', Resource: '*' }] }
const EVERYDAY = [
  ['s3:GetObject', 's3:::reports/2026/november.csv'],
  ['ec2:RunInstances', `ec2:eu-west-1:${ACCOUNT}:instance/i-0`],
  ['ec2:StartInstances', `ec2:eu-west-1:${ACCOUNT}:instance/i-0`],
  ['iam:CreateAccessKey', `iam::${ACCOUNT}:user/alice`],
  ['iam:CreateAccessKey', `iam::${ACCOUNT}:user/bob`],
  ['iam:CreateUser', `iam::${ACCOUNT}:user/eng/carol`],
  ['sts:AssumeRole', `iam::${ACCOUNT}:role/Deploy`],
  ['sts:AssumeRole', 'iam::999999999999:role/Deploy'],
  ['lambda:InvokeFunction', `lambda:eu-west-1:${ACCOUNT}:function:invoices`],
  ['secretsmanager:GetSecretValue', `secretsmanager:eu-west-1:${ACCOUNT}:secret:database`],
]
// By these a user frees itself: takes the policy away, or gets further rights.
const FREEING = [
  ...['AttachUserPolicy', 'DeleteUserPermissionsBoundary', 'DeleteUserPolicy', 'DetachUserPolicy']
    .concat(['PutUserPermissionsBoundary', 'PutUserPolicy'])
    .flatMap((action) => ['alice', 'bob'].map((user) => [`iam:${action}`, `iam::${ACCOUNT}:user/${user}`])),
  ...['AddUserToGroup', 'AttachGroupPolicy', 'DeleteGroupPolicy', 'DetachGroupPolicy']
    .concat(['PutGroupPolicy', 'RemoveUserFromGroup'])
    .map((action) => [`iam:${action}`, `iam::${ACCOUNT}:group/eng/developers`]),
  ...['CreatePolicyVersion', 'SetDefaultPolicyVersion']
    .flatMap((action) => ['force-mfa', 'other'].map((name) => [`iam:${action}`, `iam::${ACCOUNT}:policy/${name}`])),
]
const FORBIDDEN = [...EVERYDAY, ...FREEING]
const ENROLMENT = [
  ['iam:CreateVirtualMFADevice', `iam::${ACCOUNT}:mfa/alices-phone`],
  ['iam:EnableMFADevice', `iam::${ACCOUNT}:user/alice`],
  ['iam:EnableMFADevice', `iam::${ACCOUNT}:user/eng/eu/alice`],
]

// AWS does not document whether a direct call carries `aws:ViaAWSService`: both are asked.
const VIA = [{}, { 'aws:ViaAWSService': 'false' }]

let documents = 0
let wrong = 0
let end
const verdicts = {}
for await (const text of createInterface({ input: process.stdin })) {
  const line = JSON.parse(text)
  if (line.end !== undefined) {
    end = line.end
    continue
  }
  documents += 1
  verdicts[line.verdict] = (verdicts[line.verdict] ?? 0) + 1
  const forbidden = FORBIDDEN.map((call) => VIA.map((via) => isDenied(line, call, via)))
  const enrolment = ENROLMENT.map((call) => VIA.map((via) => isDenied(line, call, via)))
  const found = verdict(forbidden, enrolment)
  const isRight = line.exactly ? line.verdict === found.word : line.verdict === 'unknown' || found[line.verdict]
  if (!isRight) {
    wrong += 1
    console.error(`${line.what}: judged ${line.verdict}, evaluated ${found.word}\n${JSON.stringify(line.document)}`)
  }
}
if (documents === 0 || documents !== end || wrong > 0) {
  console.error(`${wrong} of ${documents} policies are judged wrongly; there should be ${end ?? 'more'}`)
  process.exit(1)
}
const counts = Object.entries(verdicts).map(([word, count]) => `${count} ${word}`)
console.log(`the second evaluator finds all ${documents} policies as they are judged (${counts.sort().join(', ')})`)

function isDenied({ document, partition }, [action, resource], via) {
  const result = runUnsafeSimulation(
    {
      request: {
        principal: `arn:${partition}:iam::${ACCOUNT}:user/alice`,
        action,
        resource: { resource: `arn:${partition}:${resource}`, accountId: ACCOUNT },
        contextVariables: { 'aws:username': 'alice', 'aws:MultiFactorAuthPresent': 'false', ...via },
      },
      identityPolicies: [document, ADMINISTRATOR].map((policy, i) => ({ name: `policy-${i}`, policy })),
      serviceControlPolicies: [],
      resourceControlPolicies: [],
    },
    {},
  )
  return result === 'ExplicitlyDenied'
}

function verdict(forbidden, enrolment) {
  const always = (denied) => denied.every((is) => is)
  const never = (denied) => denied.every((is) => !is)
  const found = {
    not_enforcing: forbidden.some(never),
    blocks_enrolment: enrolment.some(always),
    enforcing: forbidden.every(always) && enrolment.every(never),
  }
  return { ...found, word: Object.keys(found).find((word) => found[word]) ?? 'unknown' }
}
