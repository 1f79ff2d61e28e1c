// Writes lib/props.ts from the parameters of infra/template.yaml; with --check it only compares.
import { readFileSync, writeFileSync } from "node:fs";
import { parseDocument } from "yaml";

const target = new URL("../lib/props.ts", import.meta.url);
const template = new URL("../../template.yaml", import.meta.url);
// The parameters have none of CloudFormation's own tags, which this reader does not know and would warn about.
const { Parameters: parameters } = parseDocument(readFileSync(template, "utf8"), { logLevel: "silent" }).toJS();

// What of a parameter the construct passes on or checks.
const KNOWN = [
  "Type",
  "Default",
  "Description",
  "AllowedValues",
  "AllowedPattern",
  "MaxLength",
  "ConstraintDescription",
];
// `code` gives these two.
const byCode = ["CodeBucket", "CodeKey"];
const names = Object.keys(parameters).filter((name) => !byCode.includes(name));

function lines(text, width) {
  const wrapped = [""];
  for (const word of text.replaceAll("*/", "*\\/").split(/\s+/)) {
    const line = wrapped.at(-1);
    if (line && line.length + 1 + word.length > width) wrapped.push(word);
    else wrapped[wrapped.length - 1] = line ? `${line} ${word}` : word;
  }
  return wrapped;
}

function propertyName(name) {
  return name[0].toLowerCase() + name.slice(1);
}

function property(name) {
  const { AllowedValues: allowed, Default: byDefault, Description: description, Type: type } = parameters[name];
  const value = (it) => (type === "Number" ? String(it) : JSON.stringify(String(it)));
  const scalar = type === "Number" ? "number" : "string";
  const comment = [
    ...lines(description, 110),
    ...(byDefault === undefined ? [] : [`@default ${byDefault === "" ? "empty" : byDefault}`]),
  ];
  return [
    "  /**",
    ...comment.map((line) => `   * ${line}`),
    "   */",
    `  readonly ${propertyName(name)}?: ${allowed ? allowed.map(value).join(" | ") : scalar};`,
  ].join("\n");
}

function parameter(name) {
  const it = parameters[name];
  const fields = {
    name: JSON.stringify(name),
    byDefault: JSON.stringify(String(it.Default ?? "")),
    allowed: it.AllowedValues && JSON.stringify(it.AllowedValues.map(String)),
    // CloudFormation matches the whole value.
    pattern: it.AllowedPattern && String(new RegExp(`^(?:${it.AllowedPattern})$`)),
    maxLength: it.MaxLength,
    constraint: it.ConstraintDescription && JSON.stringify(it.ConstraintDescription),
  };
  const given = Object.entries(fields).filter(([, value]) => value !== undefined);
  const unknown = Object.keys(it).filter((key) => !KNOWN.includes(key));
  if (unknown.length > 0) throw new Error(`parameter ${name} has ${unknown}, which the construct does not check`);
  return `  ${propertyName(name)}: {\n${given.map(([key, value]) => `    ${key}: ${value},`).join("\n")}\n  },`;
}

const text = `// Written by \`npm run props\` from infra/template.yaml. Do not edit it.

/** The parameters of the account template, except for those that \`code\` gives. */
export interface TemplateProps {
${names.map(property).join("\n\n")}
}

/** What the template says of a parameter. */
export interface Parameter {
  readonly name: string;
  readonly byDefault: string;
  readonly allowed?: readonly string[];
  readonly pattern?: RegExp;
  readonly maxLength?: number;
  /** The template's words for a value that does not match. */
  readonly constraint?: string;
}

/** The parameter of each property. */
export const PARAMETERS: Readonly<Record<keyof TemplateProps, Parameter>> = {
${names.map(parameter).join("\n")}
};
`;

if (!process.argv.includes("--check")) {
  writeFileSync(target, text);
} else if (readFileSync(target, "utf8") !== text) {
  console.error("lib/props.ts does not match the parameters of infra/template.yaml. Run: npm run props");
  process.exit(1);
}
