//! Asks of every action of every AWS service what the policy lets through, in each situation, setting and partition.
//!
//! Reads the actions (`tests/policy/simulate/actions.mjs`) from standard input, and compares what it finds with the document that
//! its argument names, or writes it there if `--write` follows. Prints every request with its decision, so that a
//! second evaluator can be asked the same.
//!
//! 22,091 actions in all situations and settings would be millions of decisions. So the policy's own patterns sort
//! the calls into groups that it cannot tell apart, and one call of each group is asked. That this is right is
//! checked: in the default settings every call is asked by itself, and must be decided as its group is.

#[path = "../../tests/policy/evaluation.rs"]
mod evaluation;
mod report;
#[path = "../../tests/policy/settings.rs"]
mod settings;
#[path = "../../tests/policy/template.rs"]
mod template;
mod whose;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufWriter, Write};
use std::process::ExitCode;

use evaluation::{Request, decide};
use iam_rs::{Arn, Decision, IAMPolicy};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use settings::{PARTITIONS, all_settings};
use template::{ACCOUNT, Parameters};

/// An action, and the ARNs of its resource types with `${Partition}` and other variables in them.
#[derive(Deserialize)]
struct Action {
    action: String,
    resources: Vec<String>,
}

/// A name, and the condition keys that such a request carries; a key that is not listed is not in the request.
type Situation = (&'static str, &'static [(&'static str, &'static str)]);

const MFA: &str = "aws:MultiFactorAuthPresent";
const VIA: &str = "aws:ViaAWSService";
const SITUATIONS: [Situation; 6] = [
    ("console session without MFA", &[(MFA, "false"), (VIA, "false")]),
    ("access key", &[(VIA, "false")]),
    ("console session with MFA", &[(MFA, "true"), (VIA, "false"), ("aws:MultiFactorAuthAge", "60")]),
    ("MFA session of an access key", &[(MFA, "true"), (VIA, "false"), ("aws:MultiFactorAuthAge", "60")]),
    ("service, for a console session without MFA", &[(MFA, "false"), (VIA, "true")]),
    ("service, for an access key", &[(VIA, "true")]),
];

/// What else the user may do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Besides {
    AdministratorAccess,
    Nothing,
}

/// The policy as it is rendered for one partition and set of parameters; the partition counts as a parameter.
struct Variant {
    parameters: Parameters,
    partition: &'static str,
    source: [Vec<Value>; 2],
    parsed: [Vec<IAMPolicy>; 2],
}

impl Variant {
    fn all() -> Vec<Self> {
        let template = template::account_template();
        let administrator = json!({
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}],
        });
        let parse = |policy: &Value| serde_json::from_value(policy.clone()).expect("a policy");
        let variant = |partition, parameters: Parameters| {
            let policy = template::render(&template, template::policy_source(&template), partition, &parameters);
            let source = [vec![policy.clone(), administrator.clone()], vec![policy]];
            let parsed = source.each_ref().map(|policies| policies.iter().map(parse).collect());
            Self { parameters, partition, source, parsed }
        };
        PARTITIONS
            .iter()
            .flat_map(|p| all_settings().into_iter().map(move |s| (*p, s)))
            .map(|(p, s)| variant(p, s))
            .collect()
    }

    fn name(&self, besides: Besides) -> String {
        format!("{} {:?} {}", self.partition, self.parameters.values(), besides as usize)
    }

    fn value(&self, parameter: &str) -> &str {
        if parameter == "Partition" { self.partition } else { &self.parameters[parameter] }
    }
}

/// Decides, and prints each request for the second evaluator.
struct Asking<W> {
    out: W,
    asked: usize,
}

impl<W: Write> Asking<W> {
    fn ask(&mut self, variant: &Variant, besides: Besides, user: &str, call: (&str, &str), at: &Situation) -> Decision {
        let (action, resource) = call;
        let principal = format!("arn:{}:iam::{ACCOUNT}:{user}", variant.partition);
        let name = user.rsplit_once('/').expect("user/PATH/NAME").1;
        let user_name = [("aws:username", name)];
        let keys = at.1.iter().chain(&user_name);
        let context: Map<_, _> = keys.map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        let request = Request { principal, action: action.to_owned(), resource: resource.to_owned(), context };
        let decided = decide(&variant.parsed[besides as usize], &request);
        let row = json!({
            "id": format!("{}, {}: {action} {resource}", at.0, variant.name(besides)),
            "principal": request.principal,
            "action": action,
            "resource": resource,
            "context": request.context,
            "account": ACCOUNT,
            "policies": variant.name(besides),
            "decision": decided.decision.to_string(),
            "decidedBy": decided.by,
        });
        writeln!(self.out, "{row}").expect("the output can be written");
        self.asked += 1;
        decided.decision
    }
}

/// A resource of the caller's own where the type is a user, else one with made-up names.
fn resource(arn: &str, partition: &str) -> String {
    let mut rest = arn.replace("user/${UserNameWithPath}", "user/alice");
    for (variable, value) in [("${Partition}", partition), ("${Region}", "us-east-1"), ("${Account}", ACCOUNT)] {
        rest = rest.replace(variable, value);
    }
    let mut filled = String::new();
    while let Some((before, after)) = rest.clone().split_once("${") {
        filled += before;
        filled += "x";
        after.split_once('}').expect("a closing brace").1.clone_into(&mut rest);
    }
    filled += &rest;
    // What the first evaluator cannot read is asked as a call without a resource type.
    if Arn::parse(&filled).is_ok_and(|arn| arn.is_valid()) { filled } else { "*".to_owned() }
}

/// Which patterns of the policy a call matches: calls that match the same ones are a group.
struct Patterns {
    actions: Vec<String>,
    resources: Vec<String>,
}

impl Patterns {
    fn of(variants: &[Variant]) -> Self {
        let mut found = [BTreeSet::new(), BTreeSet::new()];
        let statements = variants.iter().filter(|variant| variant.partition == "aws").flat_map(|variant| {
            variant.source[Besides::Nothing as usize][0]["Statement"].as_array().expect("statements")
        });
        for statement in statements {
            for (i, key) in ["Action", "NotAction", "Resource", "NotResource"].into_iter().enumerate() {
                let values = match &statement[key] {
                    Value::Array(values) => values.clone(),
                    Value::Null => vec![],
                    one => vec![one.clone()],
                };
                found[i / 2].extend(values.into_iter().map(|value| value.as_str().expect("text").to_owned()));
            }
        }
        let [actions, resources] = found.map(|patterns| patterns.into_iter().collect());
        Self { actions, resources }
    }

    fn matched(&self, action: &str, resource: &str) -> Vec<bool> {
        let of_action = self.actions.iter().map(|p| Arn::wildcard_match(&action.to_lowercase(), &p.to_lowercase()));
        let of_resource =
            self.resources.iter().map(|p| Arn::wildcard_match(resource, &p.replace("${aws:username}", "alice")));
        of_action.chain(of_resource).collect()
    }
}

/// All actions with their calls, each call as the number of its group; and one call of each group.
struct Groups {
    actions: Vec<(String, Vec<(String, usize)>)>,
    /// Action and ARN with variables.
    examples: Vec<(String, String)>,
}

impl Groups {
    fn of(actions: Vec<Action>, patterns: &Patterns) -> Self {
        let mut numbers = BTreeMap::new();
        let mut examples = Vec::new();
        let grouped = |Action { action, resources }: Action| {
            let resources = if resources.is_empty() { vec!["*".to_owned()] } else { resources };
            let calls = resources.into_iter().map(|arn| {
                let number = *numbers.entry(patterns.matched(&action, &resource(&arn, "aws"))).or_insert_with(|| {
                    examples.push((action.clone(), arn.clone()));
                    examples.len() - 1
                });
                (arn, number)
            });
            let calls = calls.collect();
            (action, calls)
        };
        Self { actions: actions.into_iter().map(grouped).collect(), examples }
    }
}

/// By whether the user has `AdministratorAccess`, by situation, by variant, by group.
type Decisions = BTreeMap<Besides, Vec<Vec<Vec<Decision>>>>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let mut arguments = std::env::args().skip(1);
    let (Some(document), write) = (arguments.next(), arguments.next()) else {
        return Err("usage: policy_actions DOCUMENT [--write] < ACTIONS".to_owned());
    };
    let read = |line: std::io::Result<String>| {
        let line = line.map_err(|error| error.to_string())?;
        serde_json::from_str::<Action>(&line).map_err(|error| format!("{error} in {line}"))
    };
    let actions = std::io::stdin().lines().map(read).collect::<Result<Vec<_>, _>>()?;
    let variants = Variant::all();
    let groups = Groups::of(actions, &Patterns::of(&variants));
    let mut asking = Asking { out: BufWriter::new(std::io::stdout().lock()), asked: 0 };
    for (variant, besides) in variants.iter().flat_map(|v| [(v, Besides::AdministratorAccess), (v, Besides::Nothing)]) {
        let line = json!({"name": variant.name(besides), "policies": variant.source[besides as usize]});
        writeln!(asking.out, "{line}").map_err(|error| error.to_string())?;
    }

    let decisions = decisions_by_group(&mut asking, &variants, &groups);
    check_the_grouping(&mut asking, &variants, &groups, &decisions)?;
    let whose = whose::table(&mut asking, &variants)?;
    let found = report::document(&variants, &groups, &decisions, &whose)?;
    if write.as_deref() == Some("--write") {
        std::fs::write(&document, found).map_err(|error| format!("{document}: {error}"))?;
    } else {
        let written = std::fs::read_to_string(&document).map_err(|error| format!("{document}: {error}"))?;
        report::compare(&document, &written, &found)?;
    }
    // Last, so that the second evaluator fails too where this run has failed.
    let end = json!({"end": asking.asked});
    writeln!(asking.out, "{end}").map_err(|error| error.to_string())
}

fn decisions_by_group<W: Write>(asking: &mut Asking<W>, variants: &[Variant], groups: &Groups) -> Decisions {
    let mut of_variant = |besides, at: &Situation, variant: &Variant| {
        let calls = groups.examples.iter().map(|(action, arn)| (action, resource(arn, variant.partition)));
        calls.map(|(action, arn)| asking.ask(variant, besides, "user/alice", (action, &arn), at)).collect()
    };
    [Besides::AdministratorAccess, Besides::Nothing]
        .map(|besides| {
            let by_situation = SITUATIONS.map(|at| variants.iter().map(|v| of_variant(besides, &at, v)).collect());
            (besides, by_situation.into())
        })
        .into()
}

/// Asks every call by itself, in the default settings, in a console session without MFA and in one with MFA.
fn check_the_grouping<W: Write>(
    asking: &mut Asking<W>,
    variants: &[Variant],
    groups: &Groups,
    decisions: &Decisions,
) -> Result<(), String> {
    let default = Besides::AdministratorAccess;
    for (action, calls) in &groups.actions {
        for (arn, group) in calls {
            for situation in [0, 2] {
                let at = &SITUATIONS[situation];
                let call = (action.as_str(), resource(arn, variants[0].partition));
                let alone = asking.ask(&variants[0], default, "user/alice", (call.0, &call.1), at);
                let in_group = decisions[&default][situation][0][*group];
                if alone != in_group {
                    return Err(format!("{}: {call:?} is decided {alone}, its group {in_group}", at.0));
                }
            }
        }
    }
    Ok(())
}
