//! Attaches a managed policy to IAM users who get a console password. The policy denies everything except enrolling an
//! MFA device until the session has MFA.
//!
//! The modules, in the order of an event's way. Each imports only modules above it:
//!
//! | module | task |
//! |---|---|
//! | [`identifiers`] | names that IAM gives: user, group, policy ARN |
//! | [`exemption`] | decides whether a user is exempt, and by which setting |
//! | [`settings`] | reads the environment |
//! | [`event`] | reads a payload, and decides what it asks for |
//! | [`outcome`] | what can come of one user |
//! | `https`, [`pace`], [`iam`] | the connector, the rate of calls, and the IAM calls with their errors by meaning |
//! | [`credential_report`] | reads the credential report |
//! | [`policy_text`], [`policy_state`] | decides whether the policy's text enforces MFA and allows enrolment |
//! | [`enforce`] | covers one user |
//! | [`account`] | reads a whole account |
//! | [`sweep`] | covers every user of an account who should have the policy |
//! | [`handler`] | handles one payload, for the function and for the command |
//! | `telemetry` | writes the reply, the log line and the metrics |

pub mod identifiers;

pub mod exemption;
pub mod settings;

pub mod event;
pub mod outcome;

mod https;
pub mod iam;
pub mod pace;

pub mod credential_report;
pub mod policy_state;
pub mod policy_text;

pub mod enforce;

pub mod account;
pub mod sweep;

pub mod handler;
mod telemetry;
