//! Console users as CSV: a header and one line a user, without totals.

use crate::account_status::ConsoleUser;
use crate::error::CliError;
use crate::terminal::csv_text;

/// The fields of a [`ConsoleUser`] in their order.
const COLUMNS: [&str; 8] =
    ["user", "arn", "mfa", "coverage", "detail", "password_last_used", "access_keys", "access_key_last_used"];

/// The users, each with what stands before its own fields. `titles` are the titles of that.
///
/// # Errors
/// If a line cannot be written.
pub fn text<'a, const N: usize>(
    titles: [&str; N],
    users: impl Iterator<Item = ([&'a str; N], &'a ConsoleUser)>,
) -> Result<String, CliError> {
    let failed = |error: &dyn std::error::Error| CliError::Failed(error.to_string());
    let mut csv = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    csv.write_record(titles.into_iter().chain(COLUMNS)).map_err(|error| failed(&error))?;
    for (before, user) in users {
        let user = ConsoleUser { user: csv_text(&user.user), detail: csv_text(&user.detail), ..user.clone() };
        csv.serialize((before.map(csv_text).as_slice(), user)).map_err(|error| failed(&error))?;
    }
    let bytes = csv.into_inner().map_err(|error| failed(&error))?;
    Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}
