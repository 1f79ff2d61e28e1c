//! Checks of what notifies people: the queues, the alarms, who receives them, and the regular sweep.

use chrono::TimeDelta;

use super::{Check, CheckName, Findings, command, is_release, put_back, update_first};
use crate::commands::doctor::inventory::{Inventory, SWEEPS_KEPT};
use crate::terminal::age;

/// A message that is older than this, in seconds, has been overlooked.
const OVERLOOKED_S: i64 = 86_400;

/// No event waits.
pub fn queues(inventory: &Inventory) -> Check {
    let mut found = Findings::new(CheckName::Queues);
    if inventory.queues.is_empty() {
        found.not_in_stack(inventory, "queue");
        return found.done();
    }
    for (url, queue) in &inventory.queues {
        let name = url.rsplit('/').next().unwrap_or(url);
        match queue {
            Err(unread) => found.unread(unread),
            Ok(None) => found.fail(format!("the queue {name} does not exist"), put_back(inventory)),
            Ok(Some(queue)) if queue.messages == 0 => {}
            Ok(Some(queue)) => {
                let redrive = command(inventory, &format!("redrive --dry-run --queue {url}"));
                let waiting = format!("{} in {name}", messages(queue.messages));
                match &queue.oldest_s {
                    Ok(Some(oldest)) if *oldest > OVERLOOKED_S => {
                        found.fail(format!("{waiting}, the oldest {} old", age(*oldest)), redrive);
                    }
                    Ok(Some(oldest)) => found.warn(format!("{waiting}, the oldest {} old", age(*oldest)), redrive),
                    Ok(None) => found.warn(waiting, redrive),
                    Err(unread) => {
                        found.warn(waiting, redrive);
                        found.unread(unread);
                    }
                }
            }
        }
    }
    if found.nothing_grave() {
        found.ok("empty");
    }
    found.done()
}

fn messages(count: u64) -> String {
    if count == 1 { "1 message".to_owned() } else { format!("{count} messages") }
}

/// The stack's alarms exist, act, and are quiet.
pub fn alarms(inventory: &Inventory) -> Check {
    let home = &inventory.home;
    let mut found = Findings::new(CheckName::Alarms);
    let Some(alarms) = found.read(&inventory.alarms) else { return found.done() };
    if alarms.is_empty() && inventory.missing_alarms.is_empty() {
        found.not_in_stack(inventory, "alarm");
        return found.done();
    }
    for name in &inventory.missing_alarms {
        found.fail(format!("the alarm {name} does not exist"), put_back(inventory));
    }
    for alarm in alarms {
        let name = &alarm.name;
        if !alarm.actions_enabled {
            found.fail(
                format!("the actions of {name} are off"),
                format!("aws cloudwatch enable-alarm-actions --alarm-names {name} --region {home}"),
            );
        }
        if alarm.state == "ALARM" {
            found.warn(
                format!("{name} is in ALARM: {}", alarm.reason),
                format!("docs/runbook.md has a section for {name}"),
            );
        }
    }
    match &inventory.mutes {
        Err(unread) => found.unread(unread),
        Ok(mutes) => {
            for mute in mutes {
                let ours = |name: &&String| alarms.iter().any(|alarm| alarm.name == **name);
                let targets: Vec<&str> = mute.alarms.iter().filter(ours).map(String::as_str).collect();
                // A rule that names no alarm mutes all of the account.
                let what = match (mute.alarms.is_empty(), targets.is_empty()) {
                    (true, _) => "every alarm of the account".to_owned(),
                    (false, false) => targets.join(", "),
                    (false, true) => continue,
                };
                let fix = format!(
                    "aws cloudwatch delete-alarm-mute-rule --alarm-mute-rule-name {} --region {home}",
                    mute.name
                );
                if mute.active {
                    found.fail(format!("the mute rule {} mutes {what}", mute.name), fix);
                } else {
                    found.warn(format!("the mute rule {} will mute {what}", mute.name), fix);
                }
            }
        }
    }
    if found.nothing_grave() {
        found.ok(format!("{} alarms, none in ALARM", alarms.len()));
    }
    found.done()
}

/// Each alarm notifies a topic that somebody is subscribed to.
pub fn alarm_receivers(inventory: &Inventory) -> Check {
    let Inventory { home, account, .. } = inventory;
    let mut found = Findings::new(CheckName::AlarmReceivers);
    let Some(alarms) = found.read(&inventory.alarms) else { return found.done() };
    if alarms.is_empty() {
        // Missing ones are the business of `alarms`.
        found.not_in_stack(inventory, "alarm that exists");
        return found.done();
    }
    let silent: Vec<&str> =
        alarms.iter().filter(|alarm| alarm.actions.is_empty()).map(|alarm| alarm.name.as_str()).collect();
    if silent.len() == alarms.len() {
        found.fail("no alarm notifies anybody", "Update the stack with AlarmEmail or AlarmTopicArn (docs/rollout.md)");
    } else if !silent.is_empty() {
        found.fail(format!("these alarms notify nobody: {}", silent.join(", ")), put_back(inventory));
    }
    let mut actions: Vec<&str> = alarms.iter().flat_map(|alarm| &alarm.actions).map(String::as_str).collect();
    actions.sort_unstable();
    actions.dedup();
    for action in actions {
        match inventory.topics.iter().find(|(arn, _)| arn == action) {
            Some((_, Err(unread))) => found.unread(unread),
            Some((arn, Ok(None))) => found.fail(format!("the topic {arn} does not exist"), put_back(inventory)),
            Some((arn, Ok(Some(topic)))) if topic.confirmed == 0 => {
                let pending = match topic.pending {
                    0 => "has no subscription",
                    _ => "has no confirmed subscription: the owner of the address must follow the link in AWS's mail",
                };
                found.fail(
                    format!("the topic {arn} {pending}"),
                    format!(
                        "aws sns subscribe --topic-arn {arn} --protocol email --notification-endpoint ADDRESS --region {home}"
                    ),
                );
            }
            Some((arn, Ok(Some(topic)))) => found.ok(format!("{arn}, {} confirmed", topic.confirmed)),
            None if action.contains(":sns:") && action.split(':').nth(4) != Some(account) => {
                found.ok(format!("{action} is another account's; who is subscribed cannot be seen from here"));
            }
            None => found.ok(format!("{action} is no topic, and was not looked at")),
        }
    }
    found.done()
}

/// A sweep finished within twice its schedule and an hour.
pub fn last_sweep(inventory: &Inventory, release: &str) -> Check {
    let mut found = Findings::new(CheckName::LastSweep);
    let Some(function) = found.function(inventory) else { return found.done() };
    let Some(last) = found.read(&inventory.last_sweep) else { return found.done() };
    let start = format!(
        "aws lambda invoke --function-name {} --region {} --cli-binary-format raw-in-base64-out --payload '{{\"sweep\": {{}}}}' \
         /dev/stdout",
        function.name, inventory.home
    );
    let created = inventory.found_stack().and_then(|stack| stack.created);
    let every = schedule(inventory);
    match (last, every) {
        (None, _) if !is_release(inventory, release) => {
            found.unknown("an older release does not say when a sweep finished", update_first(release));
        }
        (None, _) if created.is_some_and(|created| inventory.now - created < TimeDelta::hours(1)) => {
            found.warn("none yet; the stack is not an hour old", start);
        }
        (None, _) => found.fail(format!("no sweep finished within {SWEEPS_KEPT} days"), start),
        (Some(last), every) => {
            let ago = inventory.now - *last;
            let finished = format!("the last one finished {} ago", age(ago.num_seconds()));
            match every {
                Some(every) if ago > every * 2 + TimeDelta::hours(1) => {
                    found.fail(format!("{finished}, though one is due every {}", age(every.num_seconds())), start);
                }
                Some(every) => found.ok(format!("{finished}; one is due every {}", age(every.num_seconds()))),
                // Without a rule that says how often, a day is the longest that the template takes.
                None if ago > TimeDelta::hours(49) => found.fail(finished, start),
                None => found.ok(finished),
            }
        }
    }
    found.done()
}

/// How often a sweep is due: the shortest of the rules' schedules that are rates.
fn schedule(inventory: &Inventory) -> Option<TimeDelta> {
    let rules = inventory.rules.iter().filter_map(|(_, rule)| rule.as_ref().ok()?.as_ref()?.schedule.as_deref());
    rules.filter_map(rate).min()
}

/// `rate(6 hours)`.
fn rate(schedule: &str) -> Option<TimeDelta> {
    let (count, unit) = schedule.strip_prefix("rate(")?.strip_suffix(')')?.split_once(' ')?;
    let count = count.parse().ok()?;
    match unit.trim_end_matches('s') {
        "minute" => TimeDelta::try_minutes(count),
        "hour" => TimeDelta::try_hours(count),
        "day" => TimeDelta::try_days(count),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_read_as_eventbridge_writes_it() {
        for (text, expected) in [
            ("rate(1 hour)", Some(TimeDelta::hours(1))),
            ("rate(6 hours)", Some(TimeDelta::hours(6))),
            ("rate(90 minutes)", Some(TimeDelta::minutes(90))),
            ("rate(1 day)", Some(TimeDelta::days(1))),
            ("cron(0 12 * * ? *)", None),
            ("rate(x hours)", None),
        ] {
            assert_eq!(rate(text), expected, "{text}");
        }
    }
}
