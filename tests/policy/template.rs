//! Takes a policy out of a `CloudFormation` template: YAML with its short tags, parameters, conditions and the
//! few intrinsic functions that the template uses.

use std::collections::BTreeMap;
use std::path::Path;

use saphyr::{LoadableYamlNode, ScalarOwned, YamlOwned};
use serde_json::{Map, Value, json};

/// A parameter's name and the value given to it.
pub type Parameters = BTreeMap<String, String>;

pub const ACCOUNT: &str = "123456789012";

/// The account template with the short tags (`!Ref x`) written out (`{"Ref": "x"}`).
pub fn account_template() -> Value {
    load("template.yaml")
}

/// A template of `infra/`, read in the same way.
pub fn load(file: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("infra").join(file);
    let text = std::fs::read_to_string(&path).expect("the template can be read");
    let mut documents = YamlOwned::load_from_str(&text).expect("the template is YAML");
    long_form(documents.remove(0))
}

/// The force-MFA policy as it stands in the template, not rendered.
pub fn policy_source(template: &Value) -> &Value {
    template.pointer("/Resources/ForceMfaPolicy/Properties/PolicyDocument").expect("the template has the policy")
}

/// What `CloudFormation` makes of `source`, a part of `template`, in this partition.
pub fn render(template: &Value, source: &Value, partition: &str, parameters: &Parameters) -> Value {
    let known = template["Parameters"].as_object().expect("the template has parameters");
    for name in parameters.keys() {
        assert!(known.contains_key(name), "no parameter {name}");
    }
    Rendering { template, partition, parameters }.value(source).expect("a policy is not AWS::NoValue")
}

struct Rendering<'a> {
    template: &'a Value,
    partition: &'a str,
    parameters: &'a Parameters,
}

impl Rendering<'_> {
    /// `None` is `AWS::NoValue`.
    fn value(&self, source: &Value) -> Option<Value> {
        match source {
            Value::Array(items) => Some(items.iter().filter_map(|item| self.value(item)).collect()),
            Value::Object(map) if map.len() == 1 => {
                let (key, argument) = map.iter().next().expect("one entry");
                match key.as_str() {
                    "Ref" if argument == "AWS::NoValue" => None,
                    "Ref" | "Fn::GetAtt" => Some(json!(self.reference(argument.as_str().expect("a name")))),
                    "Fn::Sub" => Some(json!(self.substitute(argument.as_str().expect("text")))),
                    "Fn::If" => {
                        let name = argument[0].as_str().expect("a condition's name");
                        self.value(&argument[if self.condition(name) { 1 } else { 2 }])
                    }
                    _ if key.starts_with("Fn::") => panic!("{key} is not used in policies"),
                    _ => Some(self.object(map)),
                }
            }
            Value::Object(map) => Some(self.object(map)),
            plain => Some(plain.clone()),
        }
    }

    fn object(&self, map: &Map<String, Value>) -> Value {
        map.iter().filter_map(|(key, value)| Some((key.clone(), self.value(value)?))).collect()
    }

    fn condition(&self, name: &str) -> bool {
        let equals = &self.template["Conditions"][name]["Fn::Equals"];
        let side = |i: usize| self.value(&equals[i]).expect("a value to compare");
        assert!(equals.is_array(), "{name} is not an Fn::Equals");
        side(0) == side(1)
    }

    fn reference(&self, name: &str) -> String {
        match name {
            "AWS::Partition" => self.partition.to_owned(),
            "AWS::AccountId" => ACCOUNT.to_owned(),
            // Resources, by what `Ref` and `Fn::GetAtt` make of them.
            "ForceMfaPolicy" => format!("arn:{}:iam::{ACCOUNT}:policy/force-mfa", self.partition),
            "FailureQueue.Arn" => {
                format!("arn:{}:sqs:us-east-1:{ACCOUNT}:force-mfa-failures", self.partition)
            }
            "AWS::Region" => "us-east-1".to_owned(),
            _ => self.parameters.get(name).cloned().unwrap_or_else(|| {
                self.template["Parameters"][name]["Default"]
                    .as_str()
                    .unwrap_or_else(|| panic!("{name} has no default"))
                    .to_owned()
            }),
        }
    }

    /// `${Name}` is replaced, `${!Name}` becomes `${Name}`.
    fn substitute(&self, text: &str) -> String {
        let mut rest = text;
        let mut result = String::new();
        while let Some((before, after)) = rest.split_once("${") {
            let (name, after) = after.split_once('}').expect("a closing brace");
            result += before;
            match name.strip_prefix('!') {
                Some(literal) => result.extend(["${", literal, "}"]),
                None => result += &self.reference(name),
            }
            rest = after;
        }
        result + rest
    }
}

fn long_form(yaml: YamlOwned) -> Value {
    match yaml {
        YamlOwned::Tagged(tag, inner) => {
            let name = match tag.suffix.as_str() {
                name @ ("Ref" | "Condition") => name.to_owned(),
                name => format!("Fn::{name}"),
            };
            json!({ name: long_form(*inner) })
        }
        YamlOwned::Sequence(items) => items.into_iter().map(long_form).collect(),
        YamlOwned::Mapping(map) => map
            .into_iter()
            .map(|(key, value)| match long_form(key) {
                Value::String(key) => (key, long_form(value)),
                key => panic!("the key {key} is not text"),
            })
            .collect(),
        YamlOwned::Value(ScalarOwned::String(text)) => json!(text),
        YamlOwned::Value(ScalarOwned::Integer(number)) => json!(number),
        YamlOwned::Value(ScalarOwned::Boolean(truth)) => json!(truth),
        other => panic!("{other:?} is not expected in a template"),
    }
}
