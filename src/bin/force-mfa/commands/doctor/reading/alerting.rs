//! Reads what notifies people: alarms, mute rules, topics, metrics.

use aws_config::SdkConfig;
use aws_sdk_cloudwatch::types::{
    AlarmMuteRuleStatus, Dimension, Metric as SdkMetric, MetricDataQuery, MetricStat, ScanBy,
};
use chrono::{DateTime, TimeDelta, Utc};

use super::{none_if, time, unread};
use crate::commands::doctor::inventory::{Alarm, Answer, Mute, SWEEPS_KEPT, Topic};

/// The alarms of these names, and the names that no alarm has.
pub async fn alarms(config: &SdkConfig, names: &Answer<Vec<String>>) -> (Answer<Vec<Alarm>>, Vec<String>) {
    let names = match names {
        Err(unread) => return (Err(unread.clone()), Vec::new()),
        // Without names, CloudWatch lists every alarm of the account.
        Ok(names) if names.is_empty() => return (Ok(Vec::new()), Vec::new()),
        Ok(names) => names,
    };
    let client = aws_sdk_cloudwatch::Client::new(config);
    let mut pages = client.describe_alarms().set_alarm_names(Some(names.clone())).into_paginator().send();
    let mut alarms: Vec<Alarm> = Vec::new();
    while let Some(page) = pages.next().await {
        let page = match page {
            Err(error) => return (Err(unread("cloudwatch:DescribeAlarms", &error)), Vec::new()),
            Ok(page) => page,
        };
        alarms.extend(page.metric_alarms.unwrap_or_default().into_iter().map(|alarm| Alarm {
            state: alarm.state_value.map_or_else(String::new, |state| state.as_str().to_owned()),
            name: alarm.alarm_name.unwrap_or_default(),
            reason: alarm.state_reason.unwrap_or_default(),
            actions_enabled: alarm.actions_enabled.unwrap_or_default(),
            actions: alarm.alarm_actions.unwrap_or_default(),
        }));
    }
    let missing = names.iter().filter(|name| !alarms.iter().any(|alarm| alarm.name == **name)).cloned().collect();
    (Ok(alarms), missing)
}

/// The mute rules that are active or scheduled. All are read: a rule without targets mutes every alarm, and is not
/// documented to show under the name of one.
pub async fn mutes(config: &SdkConfig) -> Answer<Vec<Mute>> {
    const ACTION: &str = "cloudwatch:ListAlarmMuteRules";
    let client = aws_sdk_cloudwatch::Client::new(config);
    let call = client.list_alarm_mute_rules().statuses(AlarmMuteRuleStatus::Active);
    let mut pages = call.statuses(AlarmMuteRuleStatus::Scheduled).into_paginator().send();
    let mut mutes = Vec::new();
    while let Some(page) = pages.next().await {
        // A region without mute rules does not know the call.
        let Some(page) = none_if(ACTION, &["UnknownOperationException", "InvalidAction"], page)? else {
            return Ok(Vec::new());
        };
        for summary in page.alarm_mute_rule_summaries.unwrap_or_default() {
            let arn = summary.alarm_mute_rule_arn.unwrap_or_default();
            let Some(name) = arn.split_once(":alarm-mute-rule:").map(|(_, name)| name.to_owned()) else { continue };
            let rule = client.get_alarm_mute_rule().alarm_mute_rule_name(&name).send().await;
            let rule =
                none_if("cloudwatch:GetAlarmMuteRule", &["ResourceNotFoundException", "ResourceNotFound"], rule)?;
            // One that is gone by now mutes nothing.
            let Some(rule) = rule else { continue };
            let active = rule.status() == Some(&AlarmMuteRuleStatus::Active);
            let alarms = rule.mute_targets.and_then(|targets| targets.alarm_names).unwrap_or_default();
            mutes.push(Mute { name, active, alarms });
        }
    }
    Ok(mutes)
}

/// The topics of this account that the alarms notify.
pub async fn topics(config: &SdkConfig, account: &str, alarms: &[Alarm]) -> Vec<(String, Answer<Option<Topic>>)> {
    let client = aws_sdk_sns::Client::new(config);
    let own = |arn: &&String| arn.contains(":sns:") && arn.split(':').nth(4) == Some(account);
    let mut arns: Vec<&String> = alarms.iter().flat_map(|alarm| &alarm.actions).filter(own).collect();
    arns.sort_unstable();
    arns.dedup();
    let mut topics = Vec::new();
    for arn in arns {
        let topic = subscriptions(&client, arn).await;
        topics.push((arn.clone(), topic));
    }
    topics
}

/// How many are subscribed to a topic. Until its owner confirms it, a subscription shows a word in place of its ARN
/// (<https://docs.aws.amazon.com/sns/latest/api/API_Subscribe.html>, `ReturnSubscriptionArn`).
async fn subscriptions(client: &aws_sdk_sns::Client, arn: &str) -> Answer<Option<Topic>> {
    let mut topic = Topic { confirmed: 0, pending: 0 };
    let mut pages = client.list_subscriptions_by_topic().topic_arn(arn).into_paginator().send();
    while let Some(page) = pages.next().await {
        let page = none_if("sns:ListSubscriptionsByTopic", &["NotFound", "NotFoundException"], page)?;
        let Some(page) = page else { return Ok(None) };
        for subscription in page.subscriptions() {
            match subscription.subscription_arn() {
                Some(arn) if arn.starts_with("arn:") => topic.confirmed += 1,
                Some("PendingConfirmation") => topic.pending += 1,
                Some(_) | None => {}
            }
        }
    }
    Ok(Some(topic))
}

/// When the latest sweep finished: the start of the five minutes that hold its metric.
pub async fn last_sweep(
    config: &SdkConfig,
    function: &Answer<Option<String>>,
    now: DateTime<Utc>,
) -> Answer<Option<DateTime<Utc>>> {
    let Some(function) = function.clone()? else { return Ok(None) };
    let metric = Metric {
        namespace: "ForceMfa",
        name: "SweepFinished",
        dimension: ("FunctionName", &function),
        statistic: "Sum",
    };
    let point = latest(config, &metric, now - TimeDelta::days(SWEEPS_KEPT)).await?;
    Ok(point.map(|(time, _)| time))
}

/// One metric with its one dimension.
#[derive(Clone, Copy, Debug)]
pub struct Metric<'a> {
    /// Such as `AWS/SQS`.
    pub namespace: &'a str,
    /// The name.
    pub name: &'a str,
    /// Name and value.
    pub dimension: (&'a str, &'a str),
    /// Such as `Maximum`.
    pub statistic: &'a str,
}

/// The latest data point of a metric, over five minutes each.
pub async fn latest(
    config: &SdkConfig,
    metric: &Metric<'_>,
    since: DateTime<Utc>,
) -> Answer<Option<(DateTime<Utc>, f64)>> {
    let (key, value) = metric.dimension;
    let of = SdkMetric::builder()
        .namespace(metric.namespace)
        .metric_name(metric.name)
        .dimensions(Dimension::builder().name(key).value(value).build())
        .build();
    let query = MetricDataQuery::builder()
        .id("latest")
        .metric_stat(MetricStat::builder().metric(of).period(300).stat(metric.statistic).build())
        .build();
    // The end is exclusive, and clocks differ.
    let until = Utc::now() + TimeDelta::minutes(5);
    let at = |time: DateTime<Utc>| aws_smithy_types::DateTime::from_secs(time.timestamp());
    let answer = aws_sdk_cloudwatch::Client::new(config)
        .get_metric_data()
        .metric_data_queries(query)
        .start_time(at(since))
        .end_time(at(until))
        .scan_by(ScanBy::TimestampDescending)
        .send()
        .await;
    let answer = answer.map_err(|error| unread("cloudwatch:GetMetricData", &error))?;
    let points = answer.metric_data_results().iter().flat_map(|result| result.timestamps().iter().zip(result.values()));
    Ok(points.filter_map(|(at, value)| Some((time(Some(at))?, *value))).max_by_key(|(at, _)| *at))
}
