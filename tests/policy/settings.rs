//! Everything that the policy can be rendered with.

use crate::template::Parameters;

pub const PARTITIONS: [&str; 3] = ["aws", "aws-us-gov", "aws-cn"];

/// Every combination of the parameters that change the policy.
pub fn all_settings() -> Vec<Parameters> {
    let parameters = [
        ("CredentialScope", ["all", "console-only"]),
        ("AllowPasswordChangeBeforeMfa", ["yes", "no"]),
        ("SelfServiceCredentials", ["yes", "no"]),
        ("EnrolFromConsoleOnly", ["yes", "no"]),
    ];
    parameters.iter().fold(vec![Parameters::new()], |settings, (name, values)| {
        let with = |value: &&str, settings: &Parameters| {
            let mut settings = settings.clone();
            settings.insert((*name).to_owned(), (*value).to_owned());
            settings
        };
        settings.iter().flat_map(|settings| values.iter().map(move |value| with(value, settings))).collect()
    })
}
