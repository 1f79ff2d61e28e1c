// Written by `npm run props` from infra/template.yaml. Do not edit it.

/** The parameters of the account template, except for those that `code` gives. */
export interface TemplateProps {
  /**
   * `enforce` attaches the policy. `report` decides and logs in the same way but writes nothing; use it to try
   * force-mfa out.
   * @default enforce
   */
  readonly mode?: "enforce" | "report";

  /**
   * Which new users get the policy. `console-users`: those with a console password. `all-users`: every user from
   * the moment it is created, so also those that only ever have access keys.
   * @default console-users
   */
  readonly scope?: "console-users" | "all-users";

  /**
   * What a sweep does with existing users, whose console password is older than this installation. `report` counts
   * them; `enforce` attaches the policy to them too. Start with `report`, read the list, inform or exempt people,
   * then change it.
   * @default report
   */
  readonly existingUsers?: "report" | "enforce";

  /**
   * Names of users who never get the policy, separated by commas. `*` stands for any characters, and upper and
   * lower case are the same. If a name has a comma, write `*` in its place. Empty: none.
   * @default empty
   */
  readonly exemptUsers?: string;

  /**
   * IAM paths whose users never get the policy, separated by commas. A path stands for everything below it too.
   * Empty: none.
   * @default empty
   */
  readonly exemptPaths?: string;

  /**
   * A tag whose users never get the policy, as `key` (with any value) or `key=value`. Anyone with `iam:TagUser`
   * can then exempt a user. Empty: none.
   * @default empty
   */
  readonly exemptTag?: string;

  /**
   * Which requests the policy denies without MFA. `all`: those of a console session and those signed with an
   * access key. `console-only`: those of a console session, for people whose scripts use their own keys; a stolen
   * key then works without MFA.
   * @default all
   */
  readonly credentialScope?: "all" | "console-only";

  /**
   * Whether a user may change their own password, and read the account's password policy, before MFA. With `no`, a
   * user who must change the password at the first sign-in cannot get in at all.
   * @default yes
   */
  readonly allowPasswordChangeBeforeMfa?: "yes" | "no";

  /**
   * Whether a user whose session has MFA may manage their own access keys, signing certificates, SSH keys and Git
   * credentials. With `no`, their other policies decide.
   * @default yes
   */
  readonly selfServiceCredentials?: "yes" | "no";

  /**
   * Whether an MFA device can only be enrolled from a console session. With `no`, an access key alone can enrol
   * one, so a stolen key can get an MFA session.
   * @default yes
   */
  readonly enrolFromConsoleOnly?: "yes" | "no";

  /**
   * Address that gets the alarms, through a topic that this stack creates. Confirm the subscription in the mail
   * that SNS sends. Empty: no topic. Without AlarmEmail and AlarmTopicArn, alarms notify nobody.
   * @default empty
   */
  readonly alarmEmail?: string;

  /**
   * SNS topic of your own that gets the alarms, in place of an e-mail address. Its access policy must let
   * cloudwatch.amazonaws.com publish for this account. Empty: none.
   * @default empty
   */
  readonly alarmTopicArn?: string;

  /**
   * Whether to create a CloudWatch dashboard, which has a monthly price.
   * @default no
   */
  readonly dashboard?: "yes" | "no";

  /**
   * How many days the function's log is kept.
   * @default 365
   */
  readonly logRetentionDays?: 1 | 3 | 5 | 7 | 14 | 30 | 60 | 90 | 120 | 150 | 180 | 365 | 400 | 545 | 731 | 1096 | 1827 | 2192 | 2557 | 2922 | 3288 | 3653;

  /**
   * Instruction set of the function. It must be the one that the zip was built for.
   * @default arm64
   */
  readonly architecture?: "arm64" | "x86_64";

  /**
   * Hours between sweeps. A sweep checks every user of the account, and covers those whose event was lost. An
   * alarm goes off if no sweep finishes for twice this time plus an hour.
   * @default 6
   */
  readonly sweepEveryHours?: "1" | "2" | "3" | "4" | "6" | "8" | "12" | "24";

  /**
   * Concurrency that is reserved for the function. Leave it empty unless other functions use up the account's
   * quota.
   * @default empty
   */
  readonly reservedConcurrency?: string;

  /**
   * What the function logs. INFO: one line for each event and sweep, and who changed the installation. WARN,
   * ERROR: only failures. Metrics and alarms do not depend on it.
   * @default INFO
   */
  readonly logLevel?: "INFO" | "WARN" | "ERROR";

  /**
   * Name of the policy and the function, and beginning of every other name. Changing it later creates a second
   * policy; users keep the first until it is detached.
   * @default force-mfa
   */
  readonly namePrefix?: string;

  /**
   * Managed policy of this account to set as permissions boundary of the function's role, if your organization
   * requires one: its name, or path/name. Empty: none.
   * @default empty
   */
  readonly permissionsBoundaryName?: string;
}

/** What the template says of a parameter. */
export interface Parameter {
  readonly name: string;
  readonly byDefault: string;
  readonly allowed?: readonly string[];
  readonly pattern?: RegExp;
  readonly maxLength?: number;
  /** The template's words for a value that does not match. */
  readonly constraint?: string;
}

/** The parameter of each property. */
export const PARAMETERS: Readonly<Record<keyof TemplateProps, Parameter>> = {
  mode: {
    name: "Mode",
    byDefault: "enforce",
    allowed: ["enforce","report"],
  },
  scope: {
    name: "Scope",
    byDefault: "console-users",
    allowed: ["console-users","all-users"],
  },
  existingUsers: {
    name: "ExistingUsers",
    byDefault: "report",
    allowed: ["report","enforce"],
  },
  exemptUsers: {
    name: "ExemptUsers",
    byDefault: "",
    pattern: /^(?:^$|^\**[A-Za-z0-9_+=.@-][A-Za-z0-9_+=.@*-]*(,\**[A-Za-z0-9_+=.@-][A-Za-z0-9_+=.@*-]*)*$)$/,
    maxLength: 1024,
    constraint: "must be user names separated by commas, without blanks, such as break-glass,ci-*; a lone * would exempt everyone and is refused",
  },
  exemptPaths: {
    name: "ExemptPaths",
    byDefault: "",
    pattern: /^(?:^$|^(\/[!-+.0-~-]+)+\/(,(\/[!-+.0-~-]+)+\/)*$)$/,
    maxLength: 1024,
    constraint: "must be IAM paths separated by commas, each beginning and ending with a slash, such as /service/,/ci/; the path / alone would exempt everyone and is refused",
  },
  exemptTag: {
    name: "ExemptTag",
    byDefault: "",
    pattern: /^(?:^$|^[A-Za-z0-9_.:/+@-]([A-Za-z0-9 _.:/+@-]{0,126}[A-Za-z0-9_.:/+@-])?(=[A-Za-z0-9_.:/=+@-]([A-Za-z0-9 _.:/=+@-]{0,254}[A-Za-z0-9_.:/=+@-])?)?$)$/,
    maxLength: 385,
    constraint: "must be a tag key, or a key and a value as key=value",
  },
  credentialScope: {
    name: "CredentialScope",
    byDefault: "all",
    allowed: ["all","console-only"],
  },
  allowPasswordChangeBeforeMfa: {
    name: "AllowPasswordChangeBeforeMfa",
    byDefault: "yes",
    allowed: ["yes","no"],
  },
  selfServiceCredentials: {
    name: "SelfServiceCredentials",
    byDefault: "yes",
    allowed: ["yes","no"],
  },
  enrolFromConsoleOnly: {
    name: "EnrolFromConsoleOnly",
    byDefault: "yes",
    allowed: ["yes","no"],
  },
  alarmEmail: {
    name: "AlarmEmail",
    byDefault: "",
    pattern: /^(?:^$|^[^@\s]+@[^@\s]+\.[^@\s.]+$)$/,
    maxLength: 254,
    constraint: "must be an e-mail address, such as security@example.com",
  },
  alarmTopicArn: {
    name: "AlarmTopicArn",
    byDefault: "",
    pattern: /^(?:^$|^arn:aws(-us-gov|-cn)?:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256}$)$/,
    constraint: "must be the ARN of an SNS topic, such as arn:aws:sns:us-east-1:123456789012:security",
  },
  dashboard: {
    name: "Dashboard",
    byDefault: "no",
    allowed: ["yes","no"],
  },
  logRetentionDays: {
    name: "LogRetentionDays",
    byDefault: "365",
    allowed: ["1","3","5","7","14","30","60","90","120","150","180","365","400","545","731","1096","1827","2192","2557","2922","3288","3653"],
  },
  architecture: {
    name: "Architecture",
    byDefault: "arm64",
    allowed: ["arm64","x86_64"],
  },
  sweepEveryHours: {
    name: "SweepEveryHours",
    byDefault: "6",
    allowed: ["1","2","3","4","6","8","12","24"],
  },
  reservedConcurrency: {
    name: "ReservedConcurrency",
    byDefault: "",
    pattern: /^(?:^$|^[1-9][0-9]{0,3}$)$/,
    constraint: "must be empty or a number from 1; 0 would stop the function",
  },
  logLevel: {
    name: "LogLevel",
    byDefault: "INFO",
    allowed: ["INFO","WARN","ERROR"],
  },
  namePrefix: {
    name: "NamePrefix",
    byDefault: "force-mfa",
    pattern: /^(?:^[A-Za-z][A-Za-z0-9-]{0,39}$)$/,
    constraint: "must be letters, digits and hyphens, at most 40, beginning with a letter",
  },
  permissionsBoundaryName: {
    name: "PermissionsBoundaryName",
    byDefault: "",
    pattern: /^(?:^$|^([A-Za-z0-9_+=,.@-]+\/)*[A-Za-z0-9_+=,.@-]{1,128}$)$/,
    maxLength: 512,
    constraint: "must be the name of a managed policy of the account, with its path but without a leading slash",
  },
};
