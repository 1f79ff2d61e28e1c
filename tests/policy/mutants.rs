//! Mutants of a policy: each differs from it in one place, by an element dropped, weakened or turned round.

use serde_json::{Map, Value, json};

pub struct Mutant {
    pub what: String,
    pub policy: Value,
}

/// All mutants of a policy as it stands in the template, where `Fn::If` and `Fn::Sub` are not resolved: both
/// branches of every choice are mutated.
pub fn of(policy: &Value) -> Vec<Mutant> {
    let mut mutants = Vec::new();
    visit(policy, "", &mut |pointer, replacement| {
        let mut mutant = policy.clone();
        let what = match &replacement {
            Some(value) => format!("{pointer} := {value}"),
            None => format!("{pointer} dropped"),
        };
        match replacement {
            Some(value) => *mutant.pointer_mut(pointer).expect("a place in the policy") = value,
            None => remove(&mut mutant, pointer),
        }
        mutants.push(Mutant { what, policy: mutant });
    });
    mutants
}

/// Whether a rendered mutant is a policy. It is none if it has lost a branch that the settings ask for.
pub fn is_whole(policy: &Value) -> bool {
    !policy["Statement"].as_array().expect("statements").contains(&Value::Null)
}

/// Whether a rendered mutant has a wildcard within a resource type, on which evaluators differ.
pub fn is_disputed(policy: &Value) -> bool {
    policy.to_string().contains(":user*$")
}

/// What a policy denies. Two mutants that deny the same differ in nothing for a user who also has
/// `AdministratorAccess`.
pub fn denies(policy: &Value) -> String {
    let mut denies = policy["Statement"].as_array().expect("statements").clone();
    denies.retain(|statement| statement["Effect"] == "Deny");
    Value::Array(denies).to_string()
}

/// Calls `mutate` with a place and what to put there, or nothing to drop it.
fn visit(node: &Value, at: &str, mutate: &mut impl FnMut(&str, Option<Value>)) {
    match node {
        Value::Object(map) if map.contains_key("Effect") => visit_statement(map, at, mutate),
        Value::Object(map) if map.contains_key("Fn::If") => {
            // The other branch, whatever the parameter says.
            mutate(at, Some(map["Fn::If"][1].clone()));
            mutate(at, Some(map["Fn::If"][2].clone()));
            for branch in ["1", "2"] {
                let branch_at = format!("{at}/Fn::If/{branch}");
                visit(&map["Fn::If"][branch.parse::<usize>().expect("a number")], &branch_at, mutate);
            }
        }
        Value::Object(map) => {
            for (key, value) in map {
                visit(value, &format!("{at}/{key}"), mutate);
            }
        }
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                visit(item, &format!("{at}/{i}"), mutate);
            }
        }
        _ => {}
    }
}

fn visit_statement(statement: &Map<String, Value>, at: &str, mutate: &mut impl FnMut(&str, Option<Value>)) {
    let denies = statement["Effect"] == "Deny";
    mutate(at, None);
    mutate(&format!("{at}/Effect"), Some(json!(if denies { "Allow" } else { "Deny" })));
    for (key, other) in
        [("Action", "NotAction"), ("NotAction", "Action"), ("Resource", "NotResource"), ("NotResource", "Resource")]
    {
        let Some(value) = statement.get(key) else {
            continue;
        };
        if value != "*" {
            let mut turned = statement.clone();
            turned.insert(other.to_owned(), turned[key].clone());
            turned.remove(key);
            mutate(at, Some(Value::Object(turned)));
            mutate(&format!("{at}/{key}"), Some(json!("*")));
        }
        let entries = value.as_array().map_or_else(
            || vec![(format!("{at}/{key}"), value)],
            |list| list.iter().enumerate().map(|(i, entry)| (format!("{at}/{key}/{i}"), entry)).collect(),
        );
        for (place, entry) in &entries {
            if entries.len() > 1 {
                mutate(place, None);
            }
            if entry.get("Fn::If").is_some() {
                mutate(place, Some(entry["Fn::If"][1].clone()));
            }
            // Every action of the service.
            if let Some((service, _)) = entry.as_str().and_then(|action| action.split_once(':')) {
                mutate(place, Some(json!(format!("{service}:*"))));
            }
            if let Some(arn) = entry.get("Fn::Sub").and_then(Value::as_str) {
                for wider in wider_arns(arn) {
                    mutate(place, Some(json!({ "Fn::Sub": wider })));
                }
            }
        }
    }
    if let Some(condition) = statement.get("Condition") {
        mutate(&format!("{at}/Condition"), None);
        visit_condition(condition, &format!("{at}/Condition"), mutate);
    }
}

fn visit_condition(condition: &Value, at: &str, mutate: &mut impl FnMut(&str, Option<Value>)) {
    if let Some(choice) = condition.get("Fn::If") {
        for (i, other) in [("1", 2), ("2", 1)] {
            mutate(&format!("{at}/Fn::If/{i}"), Some(choice[other].clone()));
            let branch = &choice[i.parse::<usize>().expect("a number")];
            visit_condition(branch, &format!("{at}/Fn::If/{i}"), mutate);
        }
        return;
    }
    for (operator, keys) in condition.as_object().expect("operators") {
        for (key, value) in keys.as_object().expect("condition keys") {
            let place = format!("{at}/{operator}/{}", key.replace('/', "~1"));
            mutate(&place, None);
            let turned = if value == "true" { "false" } else { "true" };
            mutate(&place, Some(json!(turned)));
            for other in ["Bool", "BoolIfExists", "Null"] {
                if other == operator {
                    continue;
                }
                let mut changed = condition.clone();
                remove(&mut changed, &format!("/{operator}/{key}"));
                changed[other][key] = value.clone();
                mutate(at, Some(changed));
            }
        }
    }
}

/// ARNs that match more than `arn`, as a careless hand would write them.
fn wider_arns(arn: &str) -> Vec<String> {
    let mut wider = vec![
        arn.replace("${AWS::AccountId}", "*"),
        arn.replace("${!aws:username}", "*"),
        arn.replace("/${!aws:username}", "*${!aws:username}"),
        format!("{arn}*"),
        arn.replace(":console/*", ":*").replace(":::", ":*:*:"),
        arn.replace("${AWS::Partition}", "aws"),
    ];
    wider.retain(|other| other != arn && !other.ends_with("**"));
    wider
}

fn remove(policy: &mut Value, pointer: &str) {
    let (parent, last) = pointer.rsplit_once('/').expect("a pointer");
    match policy.pointer_mut(parent).expect("a place in the policy") {
        Value::Array(items) => {
            items.remove(last.parse().expect("an index"));
        }
        Value::Object(map) => {
            map.remove(&last.replace("~1", "/"));
        }
        other => panic!("{other} has no parts"),
    }
}
