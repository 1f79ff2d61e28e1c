//! Every file of `events/` against a real IAM emulator: each comes to the outcome that its folder names, and at the end
//! just those users carry the policy who should.

mod support;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use force_mfa::handler::Handler;
use force_mfa::iam::Iam;
use force_mfa::settings::Settings;
use support::done;
use support::fake_iam::sdk_config;
use support::moto::{Account, description, root};
use tokio::time::Instant;

/// The folders, each with its files.
fn events() -> Vec<(String, Vec<PathBuf>)> {
    let entries = std::fs::read_dir(root().join("events")).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    folders.sort();
    let files = |folder: &PathBuf| {
        let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    };
    folders.iter().map(|folder| (folder.file_name().unwrap().to_str().unwrap().to_owned(), files(folder))).collect()
}

fn settings(mode: &str) -> Settings {
    let description = description();
    Settings::read(|variable| match variable {
        "FORCE_MFA_MODE" => Some(mode.to_owned()),
        _ => description["settings"][variable].as_str().map(str::to_owned),
    })
    .unwrap()
}

#[tokio::test]
async fn every_test_event_comes_to_the_outcome_of_its_folder() {
    let account = Account::start().await;
    let iam = Iam::new(&sdk_config(Some(&account.url))).await;
    let mut wrong = Vec::new();
    let mut replayed = 0;
    let mut reached = BTreeSet::new();
    for (folder, files) in events() {
        // A sweep that wrote would cover those whom the other events must leave alone.
        let mode = if ["would_attach", "swept"].contains(&folder.as_str()) { "report" } else { "enforce" };
        let handler = Handler::new(settings(mode), iam.clone()).with_waits(vec![Duration::from_millis(1)]);
        for file in files {
            let payload = std::fs::read(&file).unwrap();
            let done = done(handler.handle(&payload, Instant::now() + Duration::from_mins(1)).await);
            let came_to = done.reply["outcome"].as_str().unwrap_or(done.error_type);
            if came_to != folder {
                wrong.push(format!("{}: {came_to} {} {}", file.display(), done.reply["reason"], done.message));
            }
            if ["attached", "added_to_group"].contains(&came_to) {
                reached.insert(done.reply["user"].as_str().unwrap().to_ascii_lowercase());
            }
            replayed += 1;
        }
    }
    assert!(wrong.is_empty(), "{} of {replayed} came to something else:\n{}", wrong.len(), wrong.join("\n"));
    assert!(replayed >= 35, "{replayed} events");

    for user in description()["users"].as_array().unwrap() {
        let name = user["name"].as_str().unwrap();
        let expected = reached.contains(&name.to_ascii_lowercase()) || user["policy"] == true;
        assert_eq!(account.is_covered(name).await, expected, "{name}");
    }
}

#[tokio::test]
async fn a_sweep_of_the_emulated_account_covers_the_rest() {
    let account = Account::start().await;
    let iam = Iam::new(&sdk_config(Some(&account.url))).await;
    let handler = Handler::new(settings("enforce"), iam);
    for round in 0..2 {
        let done = done(handler.handle(br#"{"sweep": {}}"#, Instant::now() + Duration::from_mins(2)).await);
        assert_eq!(done.reply["outcome"], "swept", "{}", done.message);
        let (attached, added) =
            (done.reply["attached"].as_u64().unwrap(), done.reply["added_to_group"].as_u64().unwrap());
        assert_eq!((attached > 10, added > 0), (round == 0, round == 0), "{}", done.reply);
    }
    let settings = settings("enforce");
    for user in description()["users"].as_array().unwrap() {
        let name = force_mfa::identifiers::UserName::new(user["name"].as_str().unwrap()).unwrap();
        let tags = user["tags"].as_object().into_iter().flatten();
        let tags: Vec<_> = tags.map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned())).collect();
        let path = user["path"].as_str().unwrap_or("/");
        let exemptions = &settings.exemptions;
        let exempt = exemptions.by_name(&name).or_else(|| exemptions.by_attributes(path, &tags)).is_some();
        let expected = user["policy"] == true || user["password"] == true && !exempt;
        assert_eq!(account.is_covered(name.as_str()).await, expected, "{name}");
    }
}
