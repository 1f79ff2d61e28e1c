"""`make demo`: the story of a few users on an IAM emulator, then every test event.

The demo starts moto (see emulator.py), starts the function under `cargo lambda watch`,
and hands it events with `cargo lambda invoke`. The story shows one event of each kind
and what IAM has afterwards. Then every events/<outcome>/*.json is replayed against the
account of events/account.json; the name of the folder is the outcome that must come.
Then exactly the users that an answer names as covered must have the policy, and after a
sweep every console user of that account who is not exempt.
The operator's command then shows the story's account to an auditor, and the walk shows
what a new user meets. With --all each event gets a line of its own.

Everything listens on the loopback interface, on free ports, and is stopped at the end.
Exit status: 0 all as expected, 1 something was not, 2 the demo could not run.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from pathlib import Path

import psutil
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from emulator import ACCOUNT_ID, GROUP, POLICY_ARN, Emulator

ROOT = Path(__file__).resolve().parent.parent
EVENTS = ROOT / "events"
TOOLS = Path(sys.executable).parent
REGION = "us-east-1"
WIDTH = 100
# In these folders the function runs in report mode. A sweep that wrote would cover users
# whom other events must leave alone.
REPORT_MODE_FOLDERS = ("would_attach", "swept")

# Events about a user who is not there take seconds of waiting inside the function.
INSTANCES = 4
START_TIMEOUT_S = 60
INVOKE_TIMEOUT_S = 60
STOP_TIMEOUT_S = 1

# The story's account. Frank had his password before the installation.
EXISTING = {"name": "frank", "password": True}
USERS = [
    {"name": "alice"},
    {"name": "bob"},
    {"name": "dave", "password": True, "quota_full": True},
    {"name": "erin", "password": True},
    {"name": "break-glass-1", "password": True},
]
EXEMPT_USERS = "break-glass-*"


# rich's own frame for a recording loads a font from the network.
SVG = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font: {char_height}px Menlo, Consolas, "DejaVu Sans Mono", monospace; }}
.{unique_id}-title {{ font: bold 18px sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">{matrix}</g>
</g>
</svg>
"""


class DemoFailed(Exception):
    """The demo cannot go on. The message says why; the log has the program's words."""

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
    """What the function answered, and how long `cargo lambda invoke` took."""

    outcome: str
    reason: str
    reply: dict
    milliseconds: int

    def __str__(self) -> str:
        return f"{self.outcome}: {self.reason}" if self.reason else self.outcome


def main() -> int:
    parser = argparse.ArgumentParser(description="The story, then every test event.")
    parser.add_argument("--all", action="store_true", help="show every event")
    parser.add_argument("--svg", type=Path, help="also write what is shown to this file")
    arguments = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    sys.stdout.reconfigure(errors="replace")
    console = Console(highlight=False)
    if arguments.svg:
        # Colours as on a terminal, but no lines that are drawn again and again.
        console = Console(highlight=False, record=True, force_terminal=True, force_interactive=False)
    if arguments.svg or (not console.is_terminal and "COLUMNS" not in os.environ):
        console.width = WIDTH
    if arguments.svg:
        console.print("$ make demo", style="bold")
    with tempfile.TemporaryDirectory(prefix="force-mfa-demo-") as scratch:
        try:
            status = Demo(console, Path(scratch), arguments.all).run()
            if arguments.svg:
                console.save_svg(str(arguments.svg), title="force-mfa", theme=MONOKAI, code_format=SVG)
            return status
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


class Demo:
    def __init__(self, console: Console, scratch: Path, show_all: bool):
        self.console = console
        self.scratch = scratch
        self.show_all = show_all
        self.faults: list[str] = []
        self.reported_as_covered: set[str] = set()

    def run(self) -> int:
        use_throw_away_credentials()
        account = json.loads((EVENTS / "account.json").read_text())
        with self.console.status("Starting the emulators and the function"):
            try:
                self.emulator = self.start_story()
                everything = self.start_account(account)
            except (BotoCoreError, ClientError) as error:
                raise DemoFailed(f"The emulator's account cannot be created: {error}") from error
            self.settings = account["settings"]
            settings = {
                "AWS_ENDPOINT_URL_IAM": self.emulator.url,
                "FORCE_MFA_POLICY_ARN": POLICY_ARN,
                "FORCE_MFA_OVERFLOW_GROUP": GROUP,
                "FORCE_MFA_EXEMPT_USERS": EXEMPT_USERS,
            }
            of_events = self.settings | {"AWS_ENDPOINT_URL_IAM": everything.url}
            self.function = Function(self.scratch / "story.log", settings, 1)
            report = of_events | {"FORCE_MFA_MODE": "report"}
            reporting = Function(self.scratch / "report.log", report, 1)
            enforcing = Function(self.scratch / "enforce.log", of_events, INSTANCES)
            for function in (self.function, reporting, enforcing):
                function.wait_until_it_answers()
        # Not earlier: while cargo builds, `cargo lambda watch` could not start the function.
        command = self.build_in_background("--bin=force-mfa", "--example=walk")
        self.tell_the_story()
        counts = self.replay_every_event(everything, account["users"], reporting, enforcing)
        self.show_to_an_auditor(command)
        self.show_the_walk()
        for fault in self.faults:
            self.say(f"  ✗ {fault}", "red")
        total = sum(counts.values())
        # No line ends between a number and its outcome.
        parts = ", ".join(f"{count}\u00a0{outcome}" for outcome, count in counts.most_common())
        verdict = f"{len(self.faults)} not as expected" if self.faults else "all as expected"
        self.heading(f"{total} events of events/, {verdict}")
        for line in textwrap.wrap(parts, self.console.width - 2):
            self.say("  " + line.replace("\u00a0", " "), "red" if self.faults else "green")
        return 1 if self.faults else 0

    # What is started

    def start_moto(self, name: str) -> str:
        port = free_port()
        log = self.scratch / f"{name}.log"
        moto = start([TOOLS / "moto_server", "-H", "127.0.0.1", "-p", str(port)], log)
        wait_for_port(moto, port, "moto_server", log)
        return f"http://127.0.0.1:{port}"

    def start_story(self) -> Emulator:
        emulator = Emulator(self.start_moto("story-moto"))
        emulator.create_user(EXISTING)
        # An existing user's password is older than the policy; times have whole seconds.
        time.sleep(2)
        emulator.install({"ExemptUsers": EXEMPT_USERS})
        for user in USERS:
            emulator.create_user(user)
        return emulator

    def start_account(self, account: dict) -> Emulator:
        emulator = Emulator(self.start_moto("account-moto"))
        emulator.install({})
        for user in account["users"]:
            emulator.create_user(user)
        return emulator

    def build_in_background(self, *what: str) -> subprocess.Popen:
        command = ["cargo", "build", "--quiet", "--locked", "--all-features", *what]
        return start(command, self.scratch / "build.log")

    # What is shown

    def heading(self, text: str) -> None:
        self.console.print(f"\n{text}", style="bold", markup=False)

    def say(self, text: str, style: str = "") -> None:
        self.console.print(Text(text, style), soft_wrap=not self.console.is_terminal)

    def line(self, what: str, answer: Answer, expected: str, proof: bool = True) -> None:
        """One line of the story: what happened, and what came of it."""
        right = str(answer).startswith(expected) and proof
        if not right:
            seen = "" if proof else ", and IAM does not show it"
            self.faults.append(f"{what}: {answer}{seen}; expected {expected}")
        line = Text("  ")
        line.append("✓ " if right else "✗ ", "green" if right else "bold red")
        line.append(f"{what:<56}")
        line.append(expected if right else str(answer), "" if right else "red")
        line.append(f"  {answer.milliseconds} ms", "dim")
        self.console.print(line, soft_wrap=True)

    def tell_the_story(self) -> None:
        emulator, ask = self.emulator, self.function.ask
        has_policy = lambda name: name in emulator.coverage()  # noqa: E731
        self.heading("Events that the function gets, and what it does")

        emulator.give_password("alice")
        answer = ask(cloudtrail("CreateLoginProfile", "alice"))
        self.line("alice gets a console password", answer, "attached", has_policy("alice"))
        denied = cloudtrail("CreateLoginProfile", "bob", errorCode="AccessDenied", responseElements=None)
        self.line("IAM refuses a password for bob", ask(denied), "ignored: failed_call", not has_policy("bob"))
        transfer = cloudtrail("CreateUser", "frank", "transfer")
        self.line("AWS Transfer creates a user of its own", ask(transfer), "ignored: other_service")
        answer = ask(cloudtrail("CreateLoginProfile", "dave"))
        self.line("dave gets one; his quota of ten policies is full", answer, "added_to_group", has_policy("dave"))
        answer = ask(cloudtrail("CreateLoginProfile", "break-glass-1"))
        proof = not has_policy("break-glass-1")
        self.line("break-glass-1 gets one, and is exempt by its name", answer, "exempt", proof)
        emulator.iam.detach_user_policy(UserName="alice", PolicyArn=POLICY_ARN)
        answer = ask(cloudtrail("DetachUserPolicy", "alice", policyArn=POLICY_ARN))
        self.line("somebody detaches the policy from alice", answer, "attached", has_policy("alice"))
        answer = ask({"sweep": {}})
        counts = {key: answer.reply.get(key) for key in ("attached", "existing")}
        proof = has_policy("erin") and not has_policy("frank") and counts == {"attached": 1, "existing": 1}
        self.line("erin's event was lost; the next sweep finds her", answer, "swept", proof)
        self.say("    frank had his password before the installation: he is reported, not locked out", "dim")

    def replay_every_event(
        self, emulator: Emulator, users: list[dict], reporting: Function, enforcing: Function
    ) -> Counter:
        events = sorted(EVENTS.glob("*/*.json"))
        if not events:
            raise DemoFailed("There is no file events/<outcome>/*.json to replay.")
        if self.show_all:
            self.heading("Every event of events/: its outcome, the reason, the time")
        by_mode = {True: [], False: []}
        for event in events:
            by_mode[event.parent.name in REPORT_MODE_FOLDERS].append(event)
        before = emulator.coverage()
        counts = self.replay(reporting, by_mode[True])
        if emulator.coverage() != before:
            self.faults.append("Report mode changed who has the policy")
        counts += self.replay(enforcing, by_mode[False])
        self.compare(emulator, "after the events", self.reported_as_covered | names_with(users, "policy"))
        self.sweep_the_rest(emulator, enforcing, users)
        return counts

    def sweep_the_rest(self, emulator: Emulator, enforcing: Function, users: list[dict]) -> None:
        """Two sweeps that write. They must cover every other console user, and then nobody more."""
        # No event tells of these two.
        lost = [{"name": "lost", "password": True}, {"name": "lost.full", "password": True, "quota_full": True}]
        for user in lost:
            emulator.create_user(user)
        for attaches in (True, False):
            reply = enforcing.ask({"sweep": {}}).reply
            if any((reply.get(count, -1) > 0) != attaches for count in ("attached", "added_to_group")):
                self.faults.append(f"A {'first' if attaches else 'second'} sweep of every user: {reply}")
        due = lost + [user for user in users if not is_exempt(user, self.settings)]
        self.compare(emulator, "after a sweep", names_with(due, "password") | names_with(users, "policy"))

    def compare(self, emulator: Emulator, when: str, expected: set[str]) -> None:
        covered = {name.lower() for name in emulator.coverage()}
        self.faults += [f"{name} does not have the policy {when}" for name in sorted(expected - covered)]
        self.faults += [f"{name} has the policy {when}, and should not" for name in sorted(covered - expected)]

    def replay(self, function: Function, events: list[Path]) -> Counter:
        counts: Counter = Counter()
        pool = ThreadPoolExecutor(function.instances)
        try:
            with self.console.status("Replaying every event of events/") as status:
                answers = pool.map(lambda event: function.ask(event), events)
                for number, (event, answer) in enumerate(zip(events, answers), start=1):
                    counts[answer.outcome] += 1
                    name = f"{event.parent.name}/{event.stem}"
                    right = answer.outcome == event.parent.name
                    if not right:
                        self.faults.append(f"{name}: {answer}")
                    if answer.outcome in ("attached", "added_to_group"):
                        self.reported_as_covered.add(answer.reply["user"].lower())
                    if self.show_all:
                        self.show_event(name, answer, right)
                    status.update(f"Replaying every event of events/: {number} of {len(events)}")
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        return counts

    def show_event(self, name: str, answer: Answer, right: bool) -> None:
        line = Text("  ")
        line.append("✓ " if right else "✗ ", "green" if right else "bold red")
        line.append(f"{name}  ")
        # An error's message is long, and its type is the folder's name.
        short = answer.reason if len(answer.reason) < 40 else ""
        line.append(short if right else str(answer), "dim" if right else "red")
        line.append(f"  {answer.milliseconds} ms", "dim")
        self.console.print(line, soft_wrap=True)

    def show_to_an_auditor(self, build: subprocess.Popen) -> None:
        with self.console.status("Building the operator's command"):
            if build.wait():
                raise DemoFailed("The command does not build.", self.scratch / "build.log")
        self.heading("What an auditor sees: force-mfa status")
        # Frank is uncovered, so the exit status is 1.
        self.run_program("force-mfa", "status", f"--endpoint-url={self.emulator.url}", expected=1)

    def show_the_walk(self) -> None:
        self.heading("What the policy lets a new user do: make walk")
        self.run_program("examples/walk", "--short", expected=0)

    def run_program(self, program: str, *arguments: str, expected: int) -> None:
        """Runs a program of the crate, built before; its output goes where ours goes."""
        sys.stdout.flush()
        command = [target_directory() / "debug" / program, *arguments]
        # A recording can hold only what passes through the console.
        log = self.scratch / "program.log" if self.console.record else None
        environment = {"COLUMNS": str(self.console.width)} | ({"CLICOLOR_FORCE": "1"} if log else {})
        status = start(command, log, environment).wait()
        if log:
            self.console.print(Text.from_ansi(log.read_text().rstrip()), soft_wrap=True)
        if status != expected:
            self.faults.append(f"{program} {' '.join(arguments)} ended with exit status {status}")


def names_with(users: list[dict], key: str) -> set[str]:
    return {user["name"].lower() for user in users if user.get(key)}


def is_exempt(user: dict, settings: dict[str, str]) -> bool:
    key, value = settings["FORCE_MFA_EXEMPT_TAG"].split("=")
    return (
        fnmatchcase(user["name"].lower(), settings["FORCE_MFA_EXEMPT_USERS"])
        or user.get("path", "/").startswith(settings["FORCE_MFA_EXEMPT_PATHS"])
        or user.get("tags", {}).get(key) == value
    )


def target_directory() -> Path:
    metadata = ["cargo", "metadata", "--no-deps", "--offline", "--format-version=1"]
    done = subprocess.run(metadata, cwd=ROOT, check=False, capture_output=True, text=True)
    if done.returncode:
        raise DemoFailed(f"cargo cannot read Cargo.toml:\n{done.stderr.strip()}")
    return Path(json.loads(done.stdout)["target_directory"])


class Function:
    """The function under `cargo lambda watch`."""

    def __init__(self, log: Path, settings: dict[str, str], instances: int):
        self.log = log
        self.port = free_port()
        self.instances = instances
        options = ("--ignore-changes", f"--concurrency={instances}")
        # The build has just fetched all there is to fetch.
        more = {"AWS_LAMBDA_LOG_FORMAT": "JSON", "CARGO_NET_OFFLINE": "true"}
        watch = start(cargo_lambda("watch", self.port, *options), log, settings | more)
        wait_for_port(watch, self.port, "cargo lambda watch", log)
        # The first call to an instance starts it.
        first_call = self.invocation("--data-ascii", "{}")
        self.first_calls = [start(first_call, log.with_suffix(".call")) for _ in range(instances)]

    def invocation(self, *payload: str | Path) -> list[str | Path]:
        output = ("--output-format", "json", "--color", "never")
        return cargo_lambda("invoke", self.port, "function", *output, *payload)

    def wait_until_it_answers(self) -> None:
        # If it stops at once, as with a bad setting, the first call would never end.
        deadline = time.monotonic() + START_TIMEOUT_S
        while any(call.poll() is None for call in self.first_calls):
            if "command exited" in self.log.read_text(errors="replace"):
                raise DemoFailed("The function stopped as soon as it had started.", self.log)
            if time.monotonic() > deadline:
                raise DemoFailed(f"The function did not answer in {START_TIMEOUT_S} s.", self.log)
            time.sleep(0.05)

    def ask(self, payload: dict | Path) -> Answer:
        if isinstance(payload, Path):
            what = ("--data-file", payload)
        else:
            what = ("--data-ascii", json.dumps(payload))
        began = time.monotonic()
        try:
            call = subprocess.run(
                self.invocation(*what),
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
        return Answer(str(reply.get("outcome", "no outcome")), str(reply.get("reason", "")), reply, took)


def cloudtrail(call: str, user: str, service: str = "iam", **more: object) -> dict:
    """A call as CloudTrail records it and EventBridge delivers it, made just now."""
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    record = {key: more.pop(key) for key in ("errorCode", "responseElements") if key in more}
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "AWS API Call via CloudTrail",
        "source": f"aws.{service}",
        "account": ACCOUNT_ID,
        "time": now,
        "region": REGION,
        "resources": [],
        "detail": {
            "eventVersion": "1.11",
            "userIdentity": {
                "type": "AssumedRole",
                "arn": f"arn:aws:sts::{ACCOUNT_ID}:assumed-role/Admin/ops",
                "accountId": ACCOUNT_ID,
            },
            "eventTime": now,
            "eventSource": f"{service}.amazonaws.com",
            "eventName": call,
            "awsRegion": REGION,
            "sourceIPAddress": "198.51.100.7",
            "requestParameters": {"userName": user, **more},
            "responseElements": None,
            "eventID": str(uuid.uuid4()),
            "readOnly": False,
            "eventType": "AwsApiCall",
            "managementEvent": True,
            "recipientAccountId": ACCOUNT_ID,
            **record,
        },
    }


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
    return {
        "outcome": heading[1] if heading else "no answer",
        "reason": " ".join(lines) or call.stderr.strip(),
    }


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


def cargo_lambda(command: str, port: int, *arguments: str | Path) -> list[str | Path]:
    # From the environment that runs this file, not one that happens to be on the PATH.
    address = ["--invoke-address", "127.0.0.1", "--invoke-port", str(port)]
    return [TOOLS / "cargo-lambda", "lambda", command, *address, *arguments]


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
        raise DemoFailed(f"{missing.filename} is missing. Run this as: make demo") from None
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


if __name__ == "__main__":
    sys.exit(main())
