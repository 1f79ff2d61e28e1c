// The construct against infra/template.yaml: what it synthesizes must be the template with the values put in.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { App, Stack } from "aws-cdk-lib";
import { Template } from "aws-cdk-lib/assertions";
import { parseDocument, visit } from "yaml";
import { ForceMfa, type ForceMfaProps } from "../lib/force-mfa.js";
import { PARAMETERS, type TemplateProps } from "../lib/props.js";

// biome-ignore lint/suspicious/noExplicitAny: a template is any JSON.
type Json = any;

const CODE = { bucket: "artifacts", key: "force-mfa/arm64/0123abcd.zip" };
const HOME = { env: { account: "123456789012", region: "us-east-1" } };
const PACKAGE = join(__dirname, "..", "..");
/** Everything that a test writes; `dist` is not part of the repository. */
const SCRATCH = join(PACKAGE, "dist", "scratch");
const ZIP = join(SCRATCH, "force-mfa-arm64.zip");
mkdirSync(SCRATCH, { recursive: true });
writeFileSync(ZIP, "stands for the function");
const template = readTemplate();

/** infra/template.yaml as JSON, its short tags written out. */
function readTemplate(): Json {
  const text = readFileSync(join(PACKAGE, "..", "template.yaml"), "utf8");
  const document = parseDocument(text, { logLevel: "silent" });
  const tagged = new Map<unknown, string>();
  visit(document, {
    Node(_, node) {
      if (node.tag?.startsWith("!") && node.tag !== "!") tagged.set(node, node.tag.slice(1));
    },
  });
  const toJson = (node: Json): Json => {
    if (node === null || node === undefined) return null;
    let value: Json;
    if (node.items && node.items[0]?.key !== undefined) {
      value = Object.fromEntries(
        node.items.map((pair: Json) => [String(pair.key.value ?? pair.key), toJson(pair.value)]),
      );
    } else if (node.items) {
      value = node.items.map(toJson);
    } else {
      value = node.value;
    }
    const tag = tagged.get(node);
    if (!tag) return value;
    if (tag === "Ref" || tag === "Condition") return { [tag]: value };
    if (tag === "GetAtt") return { "Fn::GetAtt": value.split(/\.(.*)/).slice(0, 2) };
    return { [`Fn::${tag}`]: value };
  };
  return toJson(document.contents);
}

/** The template's part with every parameter replaced by its value. */
function withValues(part: Json, values: Record<string, string>): Json {
  if (Array.isArray(part)) return part.map((item) => withValues(item, values));
  if (part === null || typeof part !== "object") return part;
  if (typeof part.Ref === "string" && part.Ref in values) return values[part.Ref];
  if (typeof part["Fn::Sub"] === "string") {
    return { "Fn::Sub": part["Fn::Sub"].replace(/\$\{(\w+)\}/g, (whole, name) => values[name] ?? whole) };
  }
  return Object.fromEntries(Object.entries(part).map(([key, value]) => [key, withValues(value, values)]));
}

/** Numbers and booleans as text, as CloudFormation takes them, no order of keys, one form of GetAtt and DependsOn. */
function canonical(part: Json): Json {
  if (Array.isArray(part)) return part.map(canonical);
  if (part === null || typeof part !== "object") return String(part);
  const attribute = part["Fn::GetAtt"];
  if (typeof attribute === "string") return { "Fn::GetAtt": attribute.split(/\.(.*)/).slice(0, 2) };
  const keys = Object.keys(part).sort();
  const values = keys.map((key) => [key, key === "DependsOn" ? [part[key]].flat() : canonical(part[key])]);
  return Object.fromEntries(values);
}

function newStack(props = HOME): Stack {
  return new Stack(new App({ outdir: join(SCRATCH, "cdk.out") }), "force-mfa", props);
}

function synthesize(props: Partial<ForceMfaProps>, stackProps = HOME): Json {
  const stack = newStack(stackProps);
  new ForceMfa(stack, "ForceMfa", { code: CODE, ...props });
  return Template.fromStack(stack).toJSON();
}

function valuesOf(props: TemplateProps): Record<string, string> {
  const properties = Object.keys(PARAMETERS) as (keyof TemplateProps)[];
  const values = properties.map((it) => [PARAMETERS[it].name, String(props[it] ?? PARAMETERS[it].byDefault)]);
  return { ...Object.fromEntries(values), CodeBucket: CODE.bucket, CodeKey: CODE.key };
}

/** For each parameter a value that is not its default. */
const OTHER_VALUES: TemplateProps = Object.fromEntries(
  (Object.keys(PARAMETERS) as (keyof TemplateProps)[]).map((property) => {
    const { allowed, byDefault, name } = PARAMETERS[property];
    const examples: Record<string, string> = {
      ExemptUsers: "break-glass,ci-*",
      ExemptPaths: "/service/,/ci/",
      ExemptTag: "mfa-exempt=true",
      AlarmEmail: "",
      AlarmTopicArn: "arn:aws:sns:us-east-1:123456789012:security",
      ReservedConcurrency: "2",
      NamePrefix: "acme-mfa",
      PermissionsBoundaryName: "boundaries/workload",
    };
    return [property, allowed?.find((value) => value !== byDefault) ?? examples[name]];
  }),
);

for (const [what, props] of Object.entries({ "no values": {}, "another value for each": OTHER_VALUES })) {
  test(`with ${what} the resources are the template's`, () => {
    const stack = synthesize(props);
    for (const section of ["Resources", "Conditions", "Outputs", "Mappings"]) {
      const expected = withValues(template[section] ?? {}, valuesOf(props));
      for (const name of new Set([...Object.keys(stack[section] ?? {}), ...Object.keys(expected)])) {
        assert.deepEqual(canonical(stack[section]?.[name]), canonical(expected[name]), `${section}.${name}`);
      }
    }
  });
}

test("the stack has no parameter of the template", () => {
  const names = Object.keys(synthesize({}).Parameters ?? {});
  assert.deepEqual(
    names.filter((name) => name in template.Parameters),
    [],
  );
});

test("every parameter of the template is a property", () => {
  const names = Object.values(PARAMETERS).map(({ name }) => name);
  assert.deepEqual([...names, "CodeBucket", "CodeKey"].sort(), Object.keys(template.Parameters).sort());
});

test("a value of each kind that the template refuses is refused in its words", () => {
  const wrong: [TemplateProps, string][] = [
    [{ exemptUsers: "*" }, template.Parameters.ExemptUsers.ConstraintDescription],
    [{ exemptPaths: "/" }, template.Parameters.ExemptPaths.ConstraintDescription],
    [{ exemptPaths: "/x/".repeat(400) }, "at most 1024 characters"],
    [{ mode: "off" as "report" }, "must be one of enforce, report"],
    [{ alarmTopicArn: "security" }, template.Parameters.AlarmTopicArn.ConstraintDescription],
  ];
  for (const [props, words] of wrong) {
    assert.throws(
      () => synthesize(props),
      (error: Error) => error.message.includes(words.replace(/\s+/g, " ").trim()),
      JSON.stringify(props),
    );
  }
});

test("all refused values are reported at once", () => {
  assert.throws(() => synthesize({ exemptUsers: "*", exemptPaths: "/" }), /exemptUsers(.|\n)*exemptPaths/);
});

test("two receivers of alarms are refused", () => {
  const both = { alarmEmail: "security@example.com", alarmTopicArn: "arn:aws:sns:us-east-1:123456789012:security" };
  assert.throws(() => synthesize(both), /alarmEmail or alarmTopicArn/);
});

test("only a home region of the template is accepted", () => {
  const regions = template.Rules.HomeRegion.Assertions[0].Assert["Fn::Contains"][0];
  for (const region of regions) synthesize({}, { env: { account: "123456789012", region } });
  const elsewhere = { env: { account: "123456789012", region: "eu-central-1" } };
  assert.throws(() => synthesize({}, elsewhere), /home region/);
});

test("a local zip becomes an asset", () => {
  const { S3Bucket, S3Key } = synthesize({ code: { zip: ZIP } }).Resources.Function.Properties.Code;
  assert.match(JSON.stringify(S3Bucket), /cdk-hnb659fds-assets-123456789012-us-east-1/);
  assert.match(String(S3Key), /^[0-9a-f]{64}\.zip$/);
});

test("the example synthesizes with its values", () => {
  const outdir = join(SCRATCH, "example");
  const env = { ...process.env, CDK_OUTDIR: outdir, FORCE_MFA_ZIP: ZIP };
  execFileSync(process.execPath, [join(__dirname, "..", "example", "app.js")], { env });
  const { Resources } = JSON.parse(readFileSync(join(outdir, "force-mfa.template.json"), "utf8"));
  assert.equal(Resources.Function.Properties.Environment.Variables.FORCE_MFA_EXEMPT_PATHS, "/service/");
});

test("name, version and licence are the crate's", () => {
  const { name, version, license } = JSON.parse(readFileSync(join(PACKAGE, "package.json"), "utf8"));
  const crate = readFileSync(join(PACKAGE, "..", "..", "Cargo.toml"), "utf8");
  const field = (key: string) => crate.match(new RegExp(`^${key} = "(.*)"$`, "m"))?.[1];
  assert.deepEqual([name, version, license], [field("name"), field("version"), field("license")]);
});

test("a zip that does not exist is refused with its path", () => {
  assert.throws(() => synthesize({ code: { zip: "missing.zip" } }), /missing\.zip/);
});

test("the attributes refer to the template's resources", () => {
  const stack = newStack();
  const installed = new ForceMfa(stack, "ForceMfa", { code: CODE, alarmEmail: "security@example.com" });
  const resolved = stack.resolve([
    installed.policy.managedPolicyArn,
    installed.function.functionArn,
    installed.failureQueue.queueArn,
    installed.topic?.topicArn,
  ]);
  assert.deepEqual(resolved, [
    { Ref: "ForceMfaPolicy" },
    { "Fn::GetAtt": ["Function", "Arn"] },
    { "Fn::GetAtt": ["FailureQueue", "Arn"] },
    { Ref: "AlarmTopic" },
  ]);
});

test("without a receiver of alarms there is no topic", () => {
  const stack = newStack();
  assert.equal(new ForceMfa(stack, "ForceMfa", { code: CODE }).topic, undefined);
});
