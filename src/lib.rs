//! `force-mfa` is a guard for one AWS account: whoever gets an IAM console password carries, minutes later, a managed
//! policy that denies everything but enrolling an MFA device until the session has MFA.
//!
//! The modules in the order of the data's way:
//!
//! ```text
//! settings ─► handler ─┬► event ─► exemption ─► enforce ─┬► iam ─► outcome
//!                      └► account ───────────► sweep ────┘
//! ```

pub mod identifiers;
pub mod settings;

pub mod handler;

pub mod enforce;
pub mod event;
pub mod exemption;

pub mod account;
pub mod credential_report;
pub mod policy_state;
pub mod policy_text;
pub mod sweep;

mod https;
pub mod iam;
pub mod outcome;
pub mod pace;
mod telemetry;
