// One construct that adds the account template to a stack. infra/template.yaml stays the one definition of what is
// deployed: the construct passes values into it and refuses, at synthesis, what the template would refuse.

import { existsSync } from "node:fs";
import { join } from "node:path";
import { Stack, Token } from "aws-cdk-lib";
import { type IManagedPolicy, ManagedPolicy } from "aws-cdk-lib/aws-iam";
import { Architecture, type IFunction, Function as LambdaFunction } from "aws-cdk-lib/aws-lambda";
import { Asset } from "aws-cdk-lib/aws-s3-assets";
import { type ITopic, Topic } from "aws-cdk-lib/aws-sns";
import { type IQueue, Queue } from "aws-cdk-lib/aws-sqs";
import { CfnInclude } from "aws-cdk-lib/cloudformation-include";
import { Construct } from "constructs";
import { PARAMETERS, type Parameter, type TemplateProps } from "./props.js";

export type { TemplateProps } from "./props.js";

/** Where the function's zip is: an object in a bucket of the function's region, or a file that the CDK uploads. */
export type Code =
  | {
      /** The bucket that holds the zip. */
      readonly bucket: string;
      /** The key of the zip, as `make publish` prints it. */
      readonly key: string;
    }
  | {
      /** Path of a zip that `make package` wrote, such as `dist/force-mfa-arm64.zip`. */
      readonly zip: string;
    };

/** The parameters of the account template, and where the code is. */
export interface ForceMfaProps extends TemplateProps {
  /** Where the function's zip is. It must have been built for `architecture`. */
  readonly code: Code;
}

/** The partitions' home regions, as in the template's rule HomeRegion. */
const HOME_REGIONS = ["us-east-1", "us-gov-west-1", "cn-north-1"];

/**
 * The managed policy, the function that attaches it, and its rules, queues and alarms, for the account of the stack.
 *
 * The stack must be in the partition's home region. An account can have one installation.
 *
 * @throws if a value is one that the template would refuse, or if the stack's region is not a home region.
 */
export class ForceMfa extends Construct {
  /** The policy that denies everything except enrolling an MFA device. */
  readonly policy: IManagedPolicy;
  /** The function that attaches it. */
  readonly function: IFunction;
  /** Events on which the function failed three times. */
  readonly failureQueue: IQueue;
  /** The topic that gets the alarms; `undefined` if neither `alarmEmail` nor `alarmTopicArn` is set. */
  readonly topic?: ITopic;

  constructor(scope: Construct, id: string, props: ForceMfaProps) {
    super(scope, id);
    refuseOtherRegions(Stack.of(this).region);
    if (props.alarmEmail && props.alarmTopicArn) {
      throw new Error("ForceMfa: give alarmEmail or alarmTopicArn, not both. To reach both, subscribe the address.");
    }
    const template = new CfnInclude(this, "Template", {
      templateFile: templateFile(),
      parameters: { ...parameters(props), ...codeParameters(this, props.code) },
    });
    // Both receivers at once were refused above, and CloudFormation does not say whether a rule may compare constants.
    const rule = template.getRule("OneReceiverOfAlarms").node;
    rule.scope?.node.tryRemoveChild(rule.id);

    this.policy = ManagedPolicy.fromManagedPolicyArn(this, "Policy", template.getResource("ForceMfaPolicy").ref);
    this.function = LambdaFunction.fromFunctionAttributes(this, "Function", {
      functionArn: template.getResource("Function").getAtt("Arn").toString(),
      architecture: props.architecture === "x86_64" ? Architecture.X86_64 : Architecture.ARM_64,
      sameEnvironment: true,
    });
    const failureQueueArn = template.getResource("FailureQueue").getAtt("Arn").toString();
    this.failureQueue = Queue.fromQueueArn(this, "FailureQueue", failureQueueArn);
    const topicArn = props.alarmTopicArn || (props.alarmEmail && template.getResource("AlarmTopic").ref);
    if (topicArn) this.topic = Topic.fromTopicArn(this, "Topic", topicArn);
  }
}

function refuseOtherRegions(region: string): void {
  if (!Token.isUnresolved(region) && !HOME_REGIONS.includes(region)) {
    throw new Error(
      `ForceMfa cannot be deployed to ${region}: EventBridge gets IAM's events in the partition's home region only. ` +
        `Deploy the stack to one of ${HOME_REGIONS.join(", ")}.`,
    );
  }
}

/** Beside the compiled package if it was packed, else in the folder above it. */
function templateFile(): string {
  const packed = join(__dirname, "..", "..", "template.yaml");
  return existsSync(packed) ? packed : join(__dirname, "..", "..", "..", "template.yaml");
}

/**
 * A value for every parameter, so that the stack has none of its own. As defaults of parameters the values would count
 * at the first deployment only: `cdk deploy` keeps the values that a stack's parameters have.
 */
function parameters(props: TemplateProps): Record<string, string> {
  const refused: string[] = [];
  const values: Record<string, string> = {};
  for (const property of Object.keys(PARAMETERS) as (keyof TemplateProps)[]) {
    const parameter = PARAMETERS[property];
    const value = String(props[property] ?? parameter.byDefault);
    const problem = Token.isUnresolved(value) ? undefined : refusal(parameter, value);
    if (problem) refused.push(`${property} is ${JSON.stringify(value)}; it ${problem}`);
    values[parameter.name] = value;
  }
  if (refused.length > 0) throw new Error(`ForceMfa cannot be deployed with these values.\n${refused.join("\n")}`);
  return values;
}

function refusal({ allowed, pattern, maxLength, constraint }: Parameter, value: string): string | undefined {
  if (allowed && !allowed.includes(value)) return `must be one of ${allowed.join(", ")}`;
  if (maxLength !== undefined && value.length > maxLength) return `must have at most ${maxLength} characters`;
  if (pattern && !pattern.test(value)) return constraint ?? `must match ${pattern}`;
  return undefined;
}

function codeParameters(scope: Construct, code: Code): Record<string, string> {
  if ("bucket" in code) return { CodeBucket: code.bucket, CodeKey: code.key };
  if (!existsSync(code.zip)) {
    throw new Error(`ForceMfa: there is no file ${code.zip}. Build it with \`make package\`, or correct code.zip.`);
  }
  const asset = new Asset(scope, "Code", { path: code.zip });
  return { CodeBucket: asset.s3BucketName, CodeKey: asset.s3ObjectKey };
}
