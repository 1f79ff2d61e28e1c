"""Replay every test event against an IAM emulator, and show what comes of it.

`make demo` runs this. It starts moto (the emulator) with microburst in front of it
(for the faults moto lacks), makes the account of events/account.json, builds the
function, starts it under `cargo lambda watch`, and hands it each
events/<outcome>/*.json with `cargo lambda invoke`. The name of the folder says what
must come of an event: the reply's `outcome`, or the `errorType` of a failed call.
Then the operator's command tells who is covered, and `make walk` what the policy lets
a new user do.

Everything listens on the loopback interface, on free ports, and is stopped at the end
however the end comes. Exit status: 0 all as expected, 1 something was not, 2 the demo
could not run.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import boto3
import psutil
import yaml
from botocore.exceptions import BotoCoreError, ClientError
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
EVENTS = ROOT / "events"
TEMPLATE = ROOT / "infra" / "template.yaml"
TOOLS = Path(sys.executable).parent
ACCOUNT_ID = "123456789012"
REGION = "us-east-1"
# A sweep that wrote would cover those whom the other events must leave alone.
REPORT_MODE_FOLDERS = ("would_attach", "swept")

# Events about a user who is not there take seconds of waiting inside the function.
INSTANCES = 4
START_TIMEOUT_S = 60
INVOKE_TIMEOUT_S = 60
STOP_TIMEOUT_S = 1
PIPE_WIDTH = 200


class DemoFailed(Exception):
    """The demo cannot go on; the message says why, the log what the program said."""

    def __init__(self, message: str, log: Path | None = None):
        super().__init__(message)
        self.log = log


class Interrupted(BaseException):
    """A signal asked the demo to end."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.exit_status = 128 + number


@dataclass(frozen=True)
class Answer:
    """What the function said to one event, and how long `cargo lambda invoke` took."""

    event: Path
    outcome: str
    user: str
    detail: str
    milliseconds: int

    @property
    def expected(self) -> str:
        return self.event.parent.name


def main() -> int:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    sys.stdout.reconfigure(errors="replace")
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPE_WIDTH
    with tempfile.TemporaryDirectory(prefix="force-mfa-demo-") as scratch:
        try:
            return demo(console, Path(scratch))
        except Interrupted as signal_received:
            console.print(f"\nStopped by {signal_received}.", style="yellow")
            return signal_received.exit_status
        except DemoFailed as failure:
            console.print(f"\n{failure}", style="red", markup=False)
            if failure.log and failure.log.exists():
                console.print("The end of its log:", style="dim")
                for line in failure.log.read_text(errors="replace").splitlines()[-20:]:
                    console.print(f"  {line}", markup=False, soft_wrap=True)
            return 2
        finally:
            stop_descendants()


def demo(console: Console, scratch: Path) -> int:
    use_throw_away_credentials()
    account = json.loads((EVENTS / "account.json").read_text())
    events = sorted(EVENTS.glob("*/*.json"))
    if not events:
        raise DemoFailed("There is no file events/<outcome>/*.json to replay.")

    build(console)
    began = time.monotonic()
    with step(console, "Emulator", "moto, with microburst in front of it"):
        moto, proxy = start_emulator(scratch, account)
    # They take seconds to come up, so the account is made meanwhile.
    settings = account["settings"] | {"AWS_ENDPOINT_URL_IAM": proxy}
    report_settings = settings | {"FORCE_MFA_MODE": "report"}
    reporting = Function(scratch / "report.log", report_settings, instances=1)
    enforcing = Function(scratch / "enforce.log", settings, instances=INSTANCES)

    iam = boto3.client("iam", endpoint_url=moto)
    users = f"{len(account['users'])} users"
    source = f"policy from {TEMPLATE.relative_to(ROOT)}" if TEMPLATE.exists() else ""
    with step(console, "Account", ", ".join(filter(None, (ACCOUNT_ID, users, source)))):
        try:
            policy_arn = make_account(iam, moto, account)
            # The first request makes the proxy read all service models, for seconds
            # that would be counted as an event's.
            boto3.client("iam", endpoint_url=proxy).list_groups()
        except (BotoCoreError, ClientError) as error:
            log = scratch / "moto.log"
            raise DemoFailed(f"The account cannot be made: {error}", log) from error
    with step(console, "Function", "cargo lambda watch, in report and enforce mode"):
        reporting.wait_until_it_answers()
        enforcing.wait_until_it_answers()

    before = coverage(iam, policy_arn)
    console.print(
        "\nOne line an event: outcome, user, time of cargo lambda invoke, "
        "reason or error.",
        style="dim",
    )
    show = AnswerLines(console, events, account)
    show.title("Report mode: decides, writes nothing")
    answers = []
    for answer in replay(console, reporting, events_of_mode(events, report=True)):
        show.line(answer)
        answers.append(answer)
    report_mode_wrote = coverage(iam, policy_arn) != before
    show.title("Enforce mode")
    for answer in replay(console, enforcing, events_of_mode(events, report=False)):
        show.line(answer)
        answers.append(answer)

    after = coverage(iam, policy_arn)
    show_users(console, account, answers, before, after)
    faults = [
        f"{name(answer.event)} came to {answer.outcome}: {answer.detail}"
        for answer in answers
        if answer.outcome != answer.expected
    ]
    faults += [
        f"{name(answer.event)} says {answer.outcome}, "
        f"but {answer.user} does not have the policy"
        for answer in answers
        if answer.outcome in ("attached", "added_to_group")
        and answer.user.lower() not in map(str.lower, after)
    ]
    if report_mode_wrote:
        faults.append("Report mode changed who has the policy")
    seconds = time.monotonic() - began
    # Whoever is uncovered here is meant to be: the exit status says so, and is no fault.
    status = ["--bin=force-mfa", "--", "status", "--no-stack", f"--endpoint-url={moto}"]
    show_program(console, "What an auditor sees: force-mfa status", status, settings)
    show_program(console, "What the policy lets a new user do: make walk", ["--example=walk"])
    show_summary(console, answers, faults, seconds)
    return 1 if faults else 0


def show_program(
    console: Console, title: str, what: list[str], settings: dict | None = None
) -> None:
    """Run a program of the crate, built before, with its output where ours goes."""
    console.print(f"\n{title}", style="bold")
    sys.stdout.flush()
    command = ["cargo", "run", "--quiet", "--offline", "--locked", "--all-features"]
    status = start(command + what, log=None, environment=settings).wait()
    if status not in (0, 1):
        raise DemoFailed(f"{' '.join(what)} ended with exit status {status}.")


def name(event: Path) -> str:
    return f"{event.parent.name}/{event.name}"


def events_of_mode(events: list[Path], report: bool) -> list[Path]:
    return [e for e in events if (e.parent.name in REPORT_MODE_FOLDERS) == report]


# What is started


def use_throw_away_credentials() -> None:
    """Keep the caller's AWS settings and credentials, and proxies, out of this."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "FORCE_MFA_", "CARGO_LAMBDA_")):
            del os.environ[name]
    os.environ.update(
        AWS_ACCESS_KEY_ID="testing",
        AWS_SECRET_ACCESS_KEY="testing",
        AWS_REGION=REGION,
        AWS_DEFAULT_REGION=REGION,
        AWS_CONFIG_FILE=os.devnull,
        AWS_SHARED_CREDENTIALS_FILE=os.devnull,
        AWS_EC2_METADATA_DISABLED="true",
        NO_PROXY="127.0.0.1",
        no_proxy="127.0.0.1",
    )


def build(console: Console) -> None:
    """Build the function, with cargo's own progress on the terminal."""
    metadata = subprocess.run(
        ["cargo", "metadata", "--no-deps", "--format-version=1"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    if metadata.returncode:
        raise DemoFailed(f"cargo cannot read Cargo.toml:\n{metadata.stderr.strip()}")
    target = Path(json.loads(metadata.stdout)["target_directory"])
    first = not (target / "debug" / "function").exists()
    hint = ": the first build takes a few minutes" if first else ""
    console.print(f"Building the function and the command{hint}", style="bold")
    sys.stdout.flush()
    for what in (["--bin=function", "--bin=force-mfa"], ["--example=walk"]):
        cargo = start(["cargo", "build", "--locked", "--all-features", *what], log=None)
        if cargo.wait():
            raise DemoFailed("It does not build; cargo's messages are above.")


def start_emulator(scratch: Path, account: dict) -> tuple[str, str]:
    """Start moto and the proxy before it; return the address of each."""
    moto_port, proxy_port = free_port(), free_port()
    moto = f"http://127.0.0.1:{moto_port}"
    log = scratch / "moto.log"
    process = start(
        [TOOLS / "moto_server", "-H", "127.0.0.1", "-p", str(moto_port)], log
    )
    wait_for_port(process, moto_port, "moto_server", log)

    quota_is_full = [
        {
            "service": "iam",
            "operation": "AttachUserPolicy",
            "body": f"UserName == '{user['name']}'",
            "error": {
                "code": "LimitExceeded",
                "status": 409,
                "message": "Cannot exceed quota for PoliciesPerUser: 10",
            },
        }
        for user in account["users"]
        if user.get("quota_full")
    ]
    config = scratch / "microburst.json"
    config.write_text(json.dumps({"upstream": moto, "rules": quota_is_full}))
    log = scratch / "microburst.log"
    command = [TOOLS / "microburst", "--config", config, "--port", str(proxy_port)]
    process = start(command, log)
    wait_for_port(process, proxy_port, "microburst", log)
    return moto, f"http://127.0.0.1:{proxy_port}"


class Function:
    """The function under `cargo lambda watch`."""

    def __init__(self, log: Path, settings: dict[str, str], instances: int):
        self.log = log
        self.port = free_port()
        self.instances = instances
        options = ("--ignore-changes", "--all-features", f"--concurrency={instances}")
        # The build has just fetched all there is to fetch.
        more = {"AWS_LAMBDA_LOG_FORMAT": "JSON", "CARGO_NET_OFFLINE": "true"}
        watch = start(cargo_lambda("watch", self.port, *options), log, settings | more)
        wait_for_port(watch, self.port, "cargo lambda watch", log)
        # The first call to an instance starts it.
        self.first_calls = [
            start(invocation(self.port, "--data-ascii", "{}"), log.with_suffix(".call"))
            for _ in range(instances)
        ]

    def wait_until_it_answers(self) -> None:
        # If it stops at once, as with a bad setting, the first call would never end.
        deadline = time.monotonic() + START_TIMEOUT_S
        while any(call.poll() is None for call in self.first_calls):
            if "command exited" in self.log.read_text(errors="replace"):
                message = "The function stopped as soon as it had started."
                raise DemoFailed(message, self.log)
            if time.monotonic() > deadline:
                message = f"The function did not answer in {START_TIMEOUT_S} s."
                raise DemoFailed(message, self.log)
            time.sleep(0.05)


def cargo_lambda(verb: str, port: int, *arguments: str | Path) -> list[str | Path]:
    # From the environment that runs this file, not one that happens to be on the PATH.
    address = ["--invoke-address", "127.0.0.1", "--invoke-port", str(port)]
    return [TOOLS / "cargo-lambda", "lambda", verb, *address, *arguments]


def invocation(port: int, *payload: str | Path) -> list[str | Path]:
    output = ("--output-format", "json", "--color", "never")
    return cargo_lambda("invoke", port, "function", *output, *payload)


def start(
    command: list[str | Path], log: Path | None, environment: dict | None = None
) -> subprocess.Popen:
    """Start a program out of the reach of Ctrl-C: stopping it is our part."""
    output = log.open("wb") if log else None
    try:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | (environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if output else None,
            start_new_session=True,
        )
    except FileNotFoundError as missing:
        raise DemoFailed(
            f"{missing.filename} is missing; run it as: make demo"
        ) from None
    finally:
        if output:
            output.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_port(process: subprocess.Popen, port: int, name: str, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise DemoFailed(f"{name} did not come up on 127.0.0.1:{port}.", log)


def interrupt(number: int, _frame: object) -> None:
    raise Interrupted(number)


def stop_descendants() -> None:
    """Stop whatever this process started, and what that started in turn."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while descendants := psutil.Process().children(recursive=True):
        for process in descendants:
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        _, stubborn = psutil.wait_procs(descendants, timeout=STOP_TIMEOUT_S)
        for process in stubborn:
            with suppress(psutil.NoSuchProcess):
                process.kill()


# The account


def make_account(iam, moto: str, account: dict) -> str:
    """Make policy, overflow group and users; return the policy's ARN."""
    policy_arn = f"arn:aws:iam::{ACCOUNT_ID}:policy/{account['policy']}"
    if TEMPLATE.exists():
        make_policy_from_template(moto, account["policy"])
    else:
        document = {
            "Version": "2012-10-17",
            "Statement": {
                "Effect": "Deny",
                "NotAction": ["iam:*MFADevice*", "iam:ChangePassword"],
                "Resource": "*",
                "Condition": {"BoolIfExists": {"aws:MultiFactorAuthPresent": "false"}},
            },
        }
        iam.create_policy(
            PolicyName=account["policy"], PolicyDocument=json.dumps(document)
        )
    group = account["overflow_group"]
    iam.create_group(GroupName=group)
    iam.attach_group_policy(GroupName=group, PolicyArn=policy_arn)
    for user in account["users"]:
        make_user(iam, policy_arn, user)
    return policy_arn


def make_policy_from_template(moto: str, name: str) -> None:
    """Let the emulator's CloudFormation make the template's managed policy, alone."""
    template = yaml.load(TEMPLATE.read_text(), CloudFormationLoader)
    policies = {
        logical_id: {"Type": resource["Type"], "Properties": resource["Properties"]}
        for logical_id, resource in template["Resources"].items()
        if resource["Type"] == "AWS::IAM::ManagedPolicy"
    }
    kept = {
        section: template[section]
        for section in ("Parameters", "Mappings", "Conditions")
        if section in template
    }
    # Those without a default are about the function's code, not the policy.
    required = [
        {"ParameterKey": key, "ParameterValue": "unused"}
        for key, parameter in template.get("Parameters", {}).items()
        if "Default" not in parameter
    ]
    cloudformation = boto3.client("cloudformation", endpoint_url=moto)
    cloudformation.create_stack(
        StackName=name,
        TemplateBody=json.dumps(kept | {"Resources": policies}),
        Parameters=required,
        Capabilities=["CAPABILITY_NAMED_IAM"],
    )


class CloudFormationLoader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms written out: !Sub becomes Fn::Sub."""


def short_form(loader: yaml.SafeLoader, name: str, node: yaml.Node) -> dict:
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
        if name == "GetAtt":
            value = value.split(".", 1)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    return {name if name in ("Ref", "Condition") else f"Fn::{name}": value}


CloudFormationLoader.add_multi_constructor("!", short_form)


def make_user(iam, policy_arn: str, user: dict) -> None:
    name = user["name"]
    tags = [{"Key": k, "Value": v} for k, v in user.get("tags", {}).items()]
    iam.create_user(UserName=name, Path=user.get("path", "/"), Tags=tags)
    if user.get("password"):
        iam.create_login_profile(UserName=name, Password=secrets.token_urlsafe(24))
    if user.get("mfa"):
        device = iam.create_virtual_mfa_device(VirtualMFADeviceName=name)
        iam.enable_mfa_device(
            UserName=name,
            SerialNumber=device["VirtualMFADevice"]["SerialNumber"],
            AuthenticationCode1="123456",
            AuthenticationCode2="654321",
        )
    if user.get("policy"):
        iam.attach_user_policy(UserName=name, PolicyArn=policy_arn)


def coverage(iam, policy_arn: str) -> dict[str, str]:
    """Who has the policy: user name to `direct` or `group`."""
    holders = iam.list_entities_for_policy(PolicyArn=policy_arn)
    covered = {}
    for group in holders["PolicyGroups"]:
        members = iam.get_group(GroupName=group["GroupName"])["Users"]
        covered |= {member["UserName"]: "group" for member in members}
    return covered | {user["UserName"]: "direct" for user in holders["PolicyUsers"]}


# The replay


def replay(console: Console, function: Function, events: list[Path]):
    """Yield the answers in the order of the events, a few being asked for at a time."""
    pool = ThreadPoolExecutor(function.instances)
    try:
        with console.status("Waiting for the first answer") as status:
            answers = pool.map(lambda event: ask(function, event), events)
            for number, answer in enumerate(answers, start=1):
                yield answer
                status.update(f"{number} of {len(events)} answered")
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def ask(function: Function, event: Path) -> Answer:
    began = time.monotonic()
    try:
        call = subprocess.run(
            invocation(function.port, "--data-file", event),
            cwd=ROOT,
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INVOKE_TIMEOUT_S,
            start_new_session=True,
        )
        reply = reply_of(call)
    except subprocess.TimeoutExpired:
        reply = {"outcome": "no answer", "reason": f"waited {INVOKE_TIMEOUT_S} s"}
    took = round((time.monotonic() - began) * 1000)
    return Answer(
        event=event,
        outcome=str(reply.pop("outcome", "no outcome")),
        user=str(reply.pop("user", None) or named_in(event)),
        detail=str(reply.pop("reason", "")),
        milliseconds=took,
    )


def reply_of(call: subprocess.CompletedProcess) -> dict:
    """The reply, or for a failed call its error type and message in the same form."""
    if call.returncode == 0:
        with suppress(json.JSONDecodeError):
            reply = json.loads(call.stdout)
            if isinstance(reply, dict):
                return reply
        return {"outcome": "no outcome", "reason": call.stdout.strip()}
    # Error: malformed_event
    #
    #   × the message, wrapped
    #   │ to the width of a terminal
    heading = re.search(r"^Error: (\S+)", call.stderr, re.MULTILINE)
    lines = re.findall(r"^ +[×│x|] (.*)$", call.stderr, re.MULTILINE)
    message = re.sub(r"(?<=\S)([-/])\n", r"\1", "\n".join(lines)).replace("\n", " ")
    return {
        "outcome": heading[1] if heading else "no answer",
        "reason": message or call.stderr.strip(),
    }


def named_in(event: Path) -> str:
    """The user that an event's request names, for errors, whose reply has no field."""
    with suppress(ValueError, KeyError, TypeError):
        payload = json.loads(event.read_text())
        if "requestPayload" in payload:
            payload = payload["requestPayload"]
        name = payload["detail"]["requestParameters"]["userName"]
        return name if isinstance(name, str) else ""
    return ""


# What is shown


@contextmanager
def step(console: Console, name: str, what: str):
    began = time.monotonic()
    with console.status(f"{name}: {what}"):
        yield
    took = f"{time.monotonic() - began:.1f} s"
    row(console, [(name, 10, "bold"), (what, None, ""), (took, -7, "dim")])


def row(console: Console, cells: list[tuple[str, int | None, str]]) -> None:
    """Print one line of cells (text, width, style): negative is right-aligned, None
    takes what the others leave."""
    given = sum(abs(width) for _, width, _ in cells if width) + len(cells) - 1
    line = Text()
    for number, (text, width, style) in enumerate(cells):
        text = "".join(c if c.isprintable() else " " for c in text)
        cell = Text(" ".join(text.split()), style)
        size = abs(width) if width else max(console.width - given, 8)
        cell.truncate(size, overflow="ellipsis")
        cell.align("right" if width and width < 0 else "left", size)
        line.append(" " if number else "").append(cell)
    line.rstrip()
    console.print(line, no_wrap=True, crop=False, overflow="ignore")


class AnswerLines:
    """One line for each answer. On a terminal they are grouped by folder; in a pipe
    each line stands by itself, for a search in a log."""

    def __init__(self, console: Console, events: list[Path], account: dict):
        self.console = console
        self.grouped = console.is_terminal
        self.folder = ""
        self.with_outcome = console.width >= 100
        names = max(len(self.name(event)) for event in events)
        users = max(len(user["name"]) for user in account["users"])
        self.name_width = min(names, console.width * 40 // 100)
        self.user_width = min(users, console.width * 15 // 100)

    def name(self, event: Path) -> str:
        return event.stem if self.grouped else name(event)

    def title(self, text: str) -> None:
        self.console.print()
        self.console.print(text, style="bold")

    def line(self, answer: Answer) -> None:
        if self.grouped and answer.expected != self.folder:
            self.folder = answer.expected
            self.console.print(self.folder, style="cyan")
        right = answer.outcome == answer.expected
        detail = answer.detail
        if not right and not self.with_outcome:
            detail = f"{answer.outcome} {detail}"
        cells = [
            ("✓" if right else "✗", 1, "green" if right else "bold red"),
            (self.name(answer.event), self.name_width, ""),
            (answer.outcome, 20, "" if right else "bold red"),
            (answer.user, self.user_width, ""),
            (f"{answer.milliseconds} ms", -7, "dim"),
            (detail, None, "dim" if right else "red"),
        ]
        if not self.with_outcome:
            del cells[2]
        row(self.console, cells)


def show_users(
    console: Console, account: dict, answers: list[Answer], before: dict, after: dict
) -> None:
    left_alone = {
        answer.user.lower(): reason
        for answer in answers
        for outcome, reason in (("exempt", "exempt"), ("would_attach", "report mode"))
        if answer.outcome == outcome
    }
    console.print(f"\nThe users of account {ACCOUNT_ID}", style="bold")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in ("user", "password", "MFA", "policy before", "policy after"):
        table.add_column(heading, overflow="fold")
    for user in sorted(account["users"], key=lambda user: user["name"].lower()):
        name = user["name"]
        held, holds = before.get(name, "none"), after.get(name, "none")
        reason = left_alone.get(name.lower())
        if holds == "none" and reason:
            now = Text(f"none ({reason})")
        else:
            now = Text(holds, "bold green" if holds != held else "")
        table.add_row(
            Text(name),
            "yes" if user.get("password") else "no",
            "yes" if user.get("mfa") else "no",
            held,
            now,
        )
    console.print(table)
    console.print(
        f"direct: attached to the user; group: through {account['overflow_group']}\n",
        style="dim",
    )


def show_summary(
    console: Console, answers: list[Answer], faults: list[str], seconds: float
) -> None:
    console.print()
    for fault in faults:
        row(console, [("✗", 1, "bold red"), (fault, None, "red")])
    counts = Counter(answer.outcome for answer in answers)
    parts = ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())
    verdict = f"{len(faults)} not as expected" if faults else "all as expected"
    console.print(
        f"{len(answers)} events, {verdict}, in {seconds:.0f} s: {parts}",
        style="bold red" if faults else "bold green",
        markup=False,
        soft_wrap=not console.is_terminal,
    )


if __name__ == "__main__":
    sys.exit(main())
