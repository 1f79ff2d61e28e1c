//! Reads the way of an event: trails, rules and queues.

use aws_config::{Region, SdkConfig};
use aws_sdk_cloudtrail::operation::get_event_selectors::GetEventSelectorsOutput;
use aws_sdk_cloudtrail::types::{AdvancedEventSelector, EventSelector, ReadWriteType};
use aws_sdk_sqs::types::QueueAttributeName;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

use super::alerting::{Metric, latest};
use super::{none_if, unread};
use crate::commands::doctor::inventory::{Answer, Queue, Rule, Selectors, Target, Trail};

/// The trails that the region sees, the organization's included.
pub async fn trails(config: &SdkConfig) -> Answer<Vec<Trail>> {
    let client = aws_sdk_cloudtrail::Client::new(config);
    let answer = client.describe_trails().include_shadow_trails(true).send().await;
    let answer = answer.map_err(|error| unread("cloudtrail:DescribeTrails", &error))?;
    let mut trails = Vec::new();
    for trail in answer.trail_list() {
        // The ARN, since a trail of another region or account is not found by its name.
        let arn = trail.trail_arn().unwrap_or_default();
        let status = client.get_trail_status().name(arn).send().await;
        let logging = status.map_err(|error| unread("cloudtrail:GetTrailStatus", &error));
        let mut selectors = event_selectors(config, arn).await;
        // AWS does not say that every region knows the selectors of a trail that was created in another one.
        if let (Err(_), Some(home)) = (&selectors, trail.home_region())
            && config.region().is_none_or(|region| region.as_ref() != home)
        {
            let there = config.to_builder().region(Region::new(home.to_owned())).build();
            selectors = event_selectors(&there, arn).await;
        }
        trails.push(Trail {
            name: trail.name().unwrap_or(arn).to_owned(),
            owner: arn.split(':').nth(4).unwrap_or_default().to_owned(),
            global_events: trail.include_global_service_events().unwrap_or_default(),
            multi_region: trail.is_multi_region_trail().unwrap_or_default(),
            home: trail.home_region().unwrap_or_default().to_owned(),
            of_organization: trail.is_organization_trail().unwrap_or_default(),
            logging: logging.map(|status| status.is_logging().unwrap_or_default()),
            selectors: selectors.map(|answer| {
                let custom = trail.has_custom_event_selectors().unwrap_or_default();
                recorded(custom, answer.event_selectors(), answer.advanced_event_selectors())
            }),
        });
    }
    Ok(trails)
}

async fn event_selectors(config: &SdkConfig, trail: &str) -> Answer<GetEventSelectorsOutput> {
    let answer = aws_sdk_cloudtrail::Client::new(config).get_event_selectors().trail_name(trail).send().await;
    answer.map_err(|error| unread("cloudtrail:GetEventSelectors", &error))
}

/// What the selectors take of IAM's write events
/// (<https://docs.aws.amazon.com/awscloudtrail/latest/userguide/logging-management-events-with-cloudtrail.html>).
fn recorded(custom: bool, basic: &[EventSelector], advanced: &[AdvancedEventSelector]) -> Selectors {
    if basic.is_empty() && advanced.is_empty() && !custom {
        // The default: all management events.
        return Selectors::IamWrites;
    }
    let basic = basic.iter().map(|selector| {
        let writes = matches!(selector.read_write_type(), None | Some(ReadWriteType::All | ReadWriteType::WriteOnly));
        let excluded = selector.exclude_management_event_sources().iter().any(|source| source == IAM);
        let takes = writes && selector.include_management_events().unwrap_or(true) && !excluded;
        if takes { Selectors::IamWrites } else { Selectors::NoIamWrites }
    });
    let all: Vec<Selectors> = basic.chain(advanced.iter().map(advanced_records)).collect();
    [Selectors::IamWrites, Selectors::Filtered]
        .into_iter()
        .find(|best| all.contains(best))
        .unwrap_or(Selectors::NoIamWrites)
}

const IAM: &str = "iam.amazonaws.com";

/// All fields of one selector must match.
fn advanced_records(selector: &AdvancedEventSelector) -> Selectors {
    let of_field = |name: &'static str| selector.field_selectors().iter().filter(move |field| field.field() == name);
    let takes = |name: &'static str, value: &str| {
        of_field(name).all(|field| {
            let equals = field.equals();
            (equals.is_empty() || equals.iter().any(|of| of == value))
                && !field.not_equals().iter().any(|of| of == value)
        })
    };
    let of_management = of_field("eventCategory").any(|field| field.equals().iter().any(|of| of == "Management"));
    if !of_management || !takes("readOnly", "false") || !takes("eventSource", IAM) {
        return Selectors::NoIamWrites;
    }
    let known = |field: &str| ["eventCategory", "readOnly", "eventSource"].contains(&field);
    let by_part = |field: &aws_sdk_cloudtrail::types::AdvancedFieldSelector| {
        let parts = [field.starts_with(), field.ends_with(), field.not_starts_with(), field.not_ends_with()];
        parts.iter().any(|part| !part.is_empty())
    };
    let filtered = selector.field_selectors().iter().any(|field| !known(field.field()) || by_part(field));
    if filtered { Selectors::Filtered } else { Selectors::IamWrites }
}

/// The rules of these names.
pub async fn rules(
    config: &SdkConfig,
    account: &str,
    names: &Answer<Vec<String>>,
) -> Vec<(String, Answer<Option<Rule>>)> {
    let client = aws_sdk_eventbridge::Client::new(config);
    let region = config.region().map_or("us-east-1", |region| region.as_ref());
    let mut rules = Vec::new();
    for id in names.as_deref().unwrap_or_default() {
        // On another bus than the default one, the id is `bus|name`.
        let name = id.rsplit('|').next().unwrap_or(id);
        rules.push((name.to_owned(), rule(&client, name, &password_event(account, region)).await));
    }
    rules
}

async fn rule(client: &aws_sdk_eventbridge::Client, name: &str, event: &str) -> Answer<Option<Rule>> {
    const NOT_FOUND: &[&str] = &["ResourceNotFoundException"];
    let answer = client.describe_rule().name(name).send().await;
    let Some(answer) = none_if("events:DescribeRule", NOT_FOUND, answer)? else { return Ok(None) };
    let takes_a_password = match answer.event_pattern() {
        None => Ok(None),
        Some(pattern) => {
            let tested = client.test_event_pattern().event_pattern(pattern).event(event).send().await;
            tested.map(|answer| Some(answer.result)).map_err(|error| unread("events:TestEventPattern", &error))
        }
    };
    // A rule has five targets at most, one page.
    let targets = client.list_targets_by_rule().rule(name).send().await;
    let targets = targets.map_err(|error| unread("events:ListTargetsByRule", &error)).map(|answer| {
        let targets = answer.targets.unwrap_or_default().into_iter();
        targets
            .map(|target| Target {
                input_replaced: target.input.is_some()
                    || target.input_path.is_some()
                    || target.input_transformer.is_some(),
                dead_letters: target.dead_letter_config.and_then(|config| config.arn),
                arn: target.arn,
            })
            .collect()
    });
    Ok(Some(Rule {
        arn: answer.arn.unwrap_or_default(),
        state: answer.state.map_or_else(String::new, |state| state.as_str().to_owned()),
        pattern: answer.event_pattern,
        schedule: answer.schedule_expression,
        takes_a_password,
        targets,
    }))
}

/// A `CreateLoginProfile` event as EventBridge has it, with the fields that patterns look at.
fn password_event(account: &str, region: &str) -> String {
    let time = "2026-01-01T00:00:00Z";
    json!({
        "version": "0", "id": "00000000-0000-0000-0000-000000000000", "detail-type": "AWS API Call via CloudTrail",
        "source": "aws.iam", "account": account, "time": time, "region": region, "resources": [],
        "detail": {
            "eventVersion": "1.11", "eventSource": IAM, "eventName": "CreateLoginProfile", "eventTime": time,
            "awsRegion": region, "recipientAccountId": account, "managementEvent": true, "readOnly": false,
            "userIdentity": { "type": "IAMUser", "accountId": account, "userName": "alice" },
            "sourceIPAddress": "192.0.2.1", "requestParameters": { "userName": "alice" },
        }
    })
    .to_string()
}

/// The queues with these URLs.
pub async fn queues(
    config: &SdkConfig,
    urls: &Answer<Vec<String>>,
    now: DateTime<Utc>,
) -> Vec<(String, Answer<Option<Queue>>)> {
    let client = aws_sdk_sqs::Client::new(config);
    let mut queues = Vec::new();
    for url in urls.as_deref().unwrap_or_default() {
        queues.push((url.clone(), queue(config, &client, url, now).await));
    }
    queues
}

async fn queue(
    config: &SdkConfig,
    client: &aws_sdk_sqs::Client,
    url: &str,
    now: DateTime<Utc>,
) -> Answer<Option<Queue>> {
    // SQS gives the first in its query protocol and the second in JSON.
    const NOT_FOUND: &[&str] = &["AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"];
    let answer = client.get_queue_attributes().queue_url(url).attribute_names(QueueAttributeName::All).send().await;
    let Some(answer) = none_if("sqs:GetQueueAttributes", NOT_FOUND, answer)? else { return Ok(None) };
    let attributes = answer.attributes.unwrap_or_default();
    let count = |name| attributes.get(&name).and_then(|count| count.parse().ok()).unwrap_or(0_u64);
    let messages = count(QueueAttributeName::ApproximateNumberOfMessages)
        + count(QueueAttributeName::ApproximateNumberOfMessagesNotVisible);
    let oldest_s = if messages == 0 {
        Ok(None)
    } else {
        let name = url.rsplit('/').next().unwrap_or_default();
        let metric = Metric {
            namespace: "AWS/SQS",
            name: "ApproximateAgeOfOldestMessage",
            dimension: ("QueueName", name),
            statistic: "Maximum",
        };
        #[expect(clippy::cast_possible_truncation, reason = "an age in seconds; SQS keeps a message 14 days at most")]
        latest(config, &metric, now - TimeDelta::hours(1)).await.map(|point| point.map(|(_, age)| age as i64))
    };
    Ok(Some(Queue {
        arn: attributes.get(&QueueAttributeName::QueueArn).cloned().unwrap_or_default(),
        policy: attributes.get(&QueueAttributeName::Policy).cloned(),
        messages,
        oldest_s,
    }))
}
