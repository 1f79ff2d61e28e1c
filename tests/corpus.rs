//! The bodies of the fuzz targets over the kept corpus, and what a payload, a report or a setting may look like at its
//! worst: no panic, no unbounded time or memory, and the same decision for the same meaning.

#[path = "../fuzz/src/lib.rs"]
mod bodies;

use std::path::Path;
use std::time::{Duration, Instant};

use arbitrary::Unstructured;
use bodies::{decide, events};
use force_mfa::credential_report;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::Config;
use serde_json::{Value, json};

const HEADER: &str = "user,arn,user_creation_time,password_enabled,password_last_changed,mfa_active\n";

/// Far more than any of it takes, on a busy machine too, and far less than what grows with the square of its size.
const LONG: Duration = Duration::from_mins(1);

/// The files below a folder of the repository.
fn files(folder: &str) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(std::fs::read(path).unwrap()) }
        }
    }
    assert!(!found.is_empty());
    found
}

fn login_profile() -> Value {
    json!({
        "source": "aws.iam", "detail-type": "AWS API Call via CloudTrail", "account": "123456789012",
        "detail": {
            "eventSource": "iam.amazonaws.com", "eventName": "CreateLoginProfile", "eventTime": "2026-01-01T00:00:00Z",
            "userIdentity": { "type": "AssumedRole" }, "requestParameters": { "userName": "alice" }
        }
    })
}

fn is_for_alice(decision: &str) -> bool {
    decision.starts_with("Ok(User { user: UserName(\"alice\"), change: LoginProfileCreated })")
}

#[test]
fn the_kept_corpus_is_handled() {
    for (target, folders) in [
        (bodies::payload as fn(&[u8]), ["fuzz/corpus/payload", "events"]),
        (bodies::event, ["fuzz/corpus/event", "events"]),
        (bodies::credential_report, ["fuzz/corpus/credential_report", "events"]),
        (bodies::settings, ["fuzz/corpus/settings", "events"]),
    ] {
        folders.into_iter().flat_map(files).for_each(|bytes| target(&bytes));
    }
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

    #[test]
    fn events_changed_in_their_structure_are_handled_the_same_however_they_are_spelled(choices in vec(any::<u8>(), 0..2000)) {
        bodies::event(&choices);
    }

    #[test]
    fn any_rows_make_a_report(rows in vec(("[a-z]{0,3}|[\"\r,ü]", "(arn:aws:iam::123456789012:user)?[/a-zü]{0,4}"), 0..20)) {
        let rows: Vec<String> = rows.iter().map(|(name, arn)| format!("{name},{arn},,true,,\n")).collect();
        bodies::credential_report((HEADER.to_owned() + &rows.concat()).as_bytes());
    }

    #[test]
    fn any_lines_make_settings(lines in vec("[a-z*,=/ ]{0,8}|arn:aws:iam::[0-9]{12}:policy/[a-z/]{1,5}|report|enforce", 8)) {
        bodies::settings(lines.join("\n").as_bytes());
    }
}

#[test]
fn every_truncation_of_an_event_is_no_json() {
    let event = login_profile().to_string();
    for end in 0..event.len() {
        assert_eq!(decide(&event.as_bytes()[..end]), "not JSON", "{}", &event[..end]);
    }
    assert!(is_for_alice(&decide(event.as_bytes())));
}

#[test]
fn events_are_handled_the_same_however_they_are_spelled() {
    // Choices that differ from place to place: each event is spelled in a few ways.
    for (seed, event) in (1_u32..).zip(events()) {
        for way in 1..=5_u32 {
            let mut state = seed.wrapping_mul(0x9E37_79B9) ^ way;
            let choices: Vec<u8> = std::iter::repeat_with(|| {
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                state.to_le_bytes()[0]
            })
            .take(20_000)
            .collect();
            let plain = event.to_string();
            let mut spelled = String::new();
            let unknown_fields = !plain.contains("\"sweep\"");
            bodies::respell(event, unknown_fields, &mut Unstructured::new(&choices), &mut spelled).unwrap();
            assert!(spelled != plain || plain.len() < 100, "{plain}");
            assert_eq!(decide(spelled.as_bytes()), decide(plain.as_bytes()), "{spelled}");
        }
    }
}

/// Two names, of which one reader takes the first and another the last: neither may be believed.
#[test]
fn a_deciding_field_given_twice_is_malformed() {
    let plain = json!({
        "source": "aws.iam", "detail-type": "AWS API Call via CloudTrail", "account": "123456789012",
        "detail": {
            "eventSource": "iam.amazonaws.com", "eventName": "CreateLoginProfile", "errorCode": null, "errorMessage": null,
            "userIdentity": { "type": "IAMUser", "userName": "alice" }, "recipientAccountId": "123456789012",
            "requestParameters": { "userName": null, "policyArn": null, "groupName": null },
            "responseElements": { "loginProfile": { "userName": null }, "user": { "userName": null } },
        }
    });
    assert!(decide(plain.to_string().as_bytes()).starts_with("Ok(User"));
    let mut tried = 0;
    for place in places(&plain) {
        let (parent, key) = place.rsplit_once('/').unwrap();
        // The same value: that there are two is enough.
        let value = plain.pointer(&place).unwrap();
        let mut twice = plain.clone();
        twice.pointer_mut(parent).unwrap()["TWICE"] = value.clone();
        let twice = twice.to_string().replace("TWICE", key);
        let decision = decide(twice.as_bytes());
        assert!(decision.starts_with("Err(Malformed"), "{place}: {decision}");
        tried += 1;
    }
    assert_eq!(tried, 21);
    let status = r#"{"source":"aws.cloudformation","detail-type":"CloudFormation Stack Status Change","detail":{"status-details":{"status":"CREATE_COMPLETE","status":"CREATE_COMPLETE"}}}"#;
    for payload in [
        status,
        r#"{"sweep":{},"sweep":{}}"#,
        r#"{"sweep":{"mode":"report","mode":"report"}}"#,
        r#"{"requestPayload":{"sweep":{}},"requestPayload":{"sweep":{}}}"#,
    ] {
        assert!(decide(payload.as_bytes()).starts_with("Err(Malformed"), "{payload}: {}", decide(payload.as_bytes()));
    }
}

/// What only identifies an event must not cost its user the policy; what nobody looks at least of all.
#[test]
fn another_field_given_twice_does_no_harm() {
    let event = login_profile().to_string();
    for (place, twice) in [
        ("\"detail\":{", r#""eventID":"1","eventID":"2","#),
        ("\"detail\":{", r#""eventTime":"2026-01-01T00:00:00Z","#),
        ("\"userIdentity\":{", r#""arn":"1","arn":"2","#),
        ("\"detail\":{", r#""userAgent":"1","userAgent":"2","#),
        ("{\"account\"", r#""id":"1","id":"2","#),
        ("{\"account\"", r#""time":1,"time":2,"region":1,"region":2,"#),
    ] {
        let told = event.replacen(place, &place.replacen('{', &format!("{{{twice}"), 1), 1);
        assert_ne!(told, event);
        assert!(is_for_alice(&decide(told.as_bytes())), "{told}: {}", decide(told.as_bytes()));
    }
}

/// JSON pointers to every field inside.
fn places(value: &Value) -> Vec<String> {
    let fields = value.as_object().into_iter().flatten();
    fields
        .flat_map(|(key, field)| {
            let below = places(field).into_iter().map(move |place| format!("/{key}{place}"));
            std::iter::once(format!("/{key}")).chain(below)
        })
        .collect()
}

/// Each time that a message fails after a redrive to the function, it is wrapped once more.
#[test]
fn a_message_is_unwrapped_a_bounded_number_of_times() {
    let wrapped = |times| {
        (0..times).fold(login_profile(), |payload, _| json!({ "requestPayload": payload })).to_string().into_bytes()
    };
    assert!(is_for_alice(&decide(&wrapped(16))));
    assert!(decide(&wrapped(17)).starts_with("Err(Unrecognised"));
}

/// CloudTrail writes `userName`, always. A name under another spelling is another field, as in any JSON, and never
/// believed: what then is missing is looked for where else it may stand, and never guessed.
#[test]
fn a_field_in_another_case_is_another_field() {
    let event = login_profile().to_string();
    let respelled = |from: &str, to: &str| decide(event.replace(from, to).as_bytes());
    // Beside the right one it changes nothing.
    for other in ["UserName", "username", "USERNAME"] {
        let beside = format!("\"{other}\":\"mallory\",\"userName\":\"alice\"");
        assert!(is_for_alice(&respelled(r#""userName":"alice""#, &beside)));
        assert!(respelled("userName", other).starts_with("Err(Malformed"));
    }
    assert!(is_for_alice(&respelled(r#""eventName""#, r#""ErrorCode":"AccessDenied","eventName""#)));
    assert!(respelled("eventSource", "EventSource").starts_with("Ok(Ignore(OtherService))"));
    assert!(respelled(r#""detail""#, r#""Detail""#).starts_with("Err(Unrecognised"));
}

/// Whoever makes a request chooses some of what its record tells: no such thing may keep the user from being covered.
#[test]
fn what_is_not_looked_at_may_be_anything() {
    let event = login_profile().to_string();
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    for odd in [&deep, r#""\ud800""#, "1e999", r#"{"userName":"bob"}"#, r#"[{"userName":"bob"}]"#] {
        for place in ["\"userIdentity\":{", "\"detail\":{", "\"requestParameters\":{"] {
            let told = event.replace(place, &format!("{place}\"other\":{odd},"));
            assert_ne!(told, event);
            assert!(is_for_alice(&decide(told.as_bytes())), "{place}{odd:.100}");
        }
    }
}

/// One test, so that nothing else takes memory meanwhile but the small tests above.
#[test]
fn what_is_huge_is_read_in_bounded_time_and_memory() {
    const HUGE: usize = 6 << 20;
    let fill = |item: &str| item.repeat(HUGE / item.len());
    let list = |item: &str| format!("[{}0]", fill(item));
    let inside = |path: &str, what: &str| {
        let mut event = login_profile();
        *event.pointer_mut(path).unwrap() = json!("HERE");
        event.to_string().replace("\"HERE\"", what)
    };
    let text = format!("\"{}\"", fill("x"));
    let padded = login_profile().to_string().replacen('{', &format!("{{\"padding\":{text},"), 1);
    let listed = login_profile().to_string().replacen('{', &format!("{{\"padding\":{},", list("0,")), 1);
    let wrapped = "{\"requestPayload\":".repeat(HUGE / 20) + "1" + &"}".repeat(HUGE / 20);
    for (what, payload, expected) in [
        ("text beside", padded, "Ok(User"),
        ("a list beside", listed, "Ok(User"),
        ("nothing but text", text.clone(), "Err(Unrecognised"),
        ("nothing but a list", list("0,"), "Err(Unrecognised"),
        ("nothing but white space", fill(" "), "not JSON"),
        ("a name", inside("/detail/requestParameters/userName", &text), "Err(Malformed"),
        (
            "an escaped name",
            inside("/detail/requestParameters/userName", &format!("\"{}\"", fill("\\u0061"))),
            "Err(Malformed",
        ),
        ("a list for a name", inside("/detail/requestParameters/userName", &list("0,")), "Err(Malformed"),
        ("text for a detail", inside("/detail", &text), "Err(Malformed"),
        ("text for an event name", inside("/detail/eventName", &text), "Ok(Ignore"),
        ("text for an account", inside("/account", &text), "Ok(Ignore"),
        ("a sweep of an unknown field", format!("{{\"sweep\":{{{text}:1}}}}"), "Err(Malformed"),
        ("lists, 100,000 deep", "[".repeat(100_000), "not JSON"),
        ("objects, 100,000 deep", fill("{\"requestPayload\":"), "not JSON"),
        ("a message wrapped again and again", wrapped, "Err(Unrecognised"),
        (
            "closed lists for a detail",
            inside("/detail", &("[".repeat(100_000) + &"]".repeat(100_000))),
            "Err(Malformed",
        ),
        ("a number", fill("9"), ""),
    ] {
        let started = Instant::now();
        let decision = decide(payload.as_bytes());
        assert!(decision.starts_with(expected), "{what}: {decision:.300}");
        assert!(started.elapsed() < LONG, "{what} took {:?}", started.elapsed());
    }

    // The account's quota of users, with rows of which each breaks the CSV in its way.
    for broken in
        ["\"", "a,\"b", "\"a\"b\",", "\r", "\0,,", "\u{fc},\u{fc}", ",,,,,", "alice,arn:aws:iam::1:user,x,true,x,true"]
    {
        let report = HEADER.to_owned() + &format!("{broken}\n").repeat(5000);
        let started = Instant::now();
        bodies::credential_report(report.as_bytes());
        assert!(started.elapsed() < LONG, "{broken:?} took {:?}", started.elapsed());
    }
    let started = Instant::now();
    for report in [fill("x"), HEADER.to_owned() + &fill("\""), HEADER.to_owned() + &fill(","), fill("a,")] {
        bodies::credential_report(report.as_bytes());
    }
    assert!(started.elapsed() < LONG, "{:?}", started.elapsed());

    let started = Instant::now();
    bodies::settings(fill("*a,\n").as_bytes());
    bodies::settings(format!("\n\n\n\n{}", fill("*a,")).as_bytes());
    assert!(started.elapsed() < LONG, "{:?}", started.elapsed());

    if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let kibibytes: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
        println!("peak memory: {kibibytes} KiB");
        assert!(kibibytes < 512 << 10, "{kibibytes} KiB");
    }
}

#[test]
fn a_broken_row_costs_only_itself() {
    let row =
        |name: &str| format!("{name},arn:aws:iam::123456789012:user/{name},2026-01-01T00:00:00Z,true,N/A,false\n");
    for broken in
        ["bob\n", "bob,,,\n", ",,,,,\n", "bob,arn,x,maybe,x,x\n", "b\u{fc}b,arn,x,true,x,true\n", "bob,a,b,c,d,e,f\n"]
    {
        let report = [HEADER, &row("alice"), broken, &row("carol")].concat();
        let rows = credential_report::read(report.as_bytes()).unwrap();
        assert_eq!(rows.iter().map(|row| row.user.as_str()).collect::<Vec<_>>(), ["alice", "carol"], "{broken:?}");
    }
}
