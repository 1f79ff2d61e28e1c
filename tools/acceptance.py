"""`make acceptance`: tries force-mfa in a sandbox account on AWS, and writes a report in Markdown.

docs/acceptance.md says what it does and what it costs. It asks first, refuses an account that people use, and deletes
what it created, whatever happens on the way."""

import argparse
import datetime
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "infra"), str(ROOT / "tools")]
from acceptance_account import NAME, Differs, SandboxAccount  # noqa: E402
from acceptance_steps import STEPS  # noqa: E402
from aws_calls import RolloutError, WrongUsage  # noqa: E402
from botocore.exceptions import BotoCoreError, ClientError  # noqa: E402


@dataclass
class Row:
    """One step: what is expected, what was seen, and how it ended."""

    step: str
    expected: str
    seen: str
    result: str
    took_s: int


def refuse_used_account(account, with_console_users):
    """Nothing is tried where force-mfa is installed, or where it would meet people."""
    if account.has_installation():
        raise WrongUsage(f"Account {account.aws.account} has a stack, a policy or a group of force-mfa: nothing was done.")
    users = account.console_users()
    if users and not with_console_users:
        raise WrongUsage(
            f"Account {account.aws.account} has console users ({', '.join(users[:5])}): nothing was done. Take a sandbox "
            "account. To go on all the same, pass WITH_CONSOLE_USERS=1: the installation of this run leaves users alone "
            "that got their password before it, and is deleted at the end."
        )


def confirm(account, given):
    """Asks for the account's number, unless it is given; a number that is another's ends the run."""
    print(f"Account {account.aws.account}, as {account.aws.caller}, region {account.aws.region}.")
    print("This deploys force-mfa, creates users and policies, and deletes all of it again. It takes about an hour.")
    if not given:
        if not sys.stdin.isatty():
            raise WrongUsage("There is no terminal to ask on: give the account's number, ACCOUNT=123456789012.")
        given = input("Type the account's number to go on: ").strip()
    if given != account.aws.account:
        raise WrongUsage(f"{given or 'Nothing'} is not {account.aws.account}: nothing was done.")


def try_steps(account, steps, clean_up):
    """Runs each step. One that differs does not stop the others, unless nothing can be tried without it."""
    rows = []
    for step in steps:
        began = time.monotonic()
        print(f"{step.name}: {step.expected} ...", flush=True)
        try:
            seen, result = step.run(account, clean_up), "as expected"
        except Differs as difference:
            seen, result = str(difference), "DIFFERS"
        except (RolloutError, BotoCoreError, ClientError) as error:
            seen, result = str(error), "FAILED"
        rows.append(Row(step.name, step.expected, seen, result, round(time.monotonic() - began)))
        print(f"{step.name}: {result}: {seen}", flush=True)
        if result != "as expected" and step.is_needed:
            print(f"Without {step.name} nothing else can be tried.")
            break
    return rows


class CleanUp:
    """What undoes what was done."""

    def __init__(self):
        self.callbacks = []

    def callback(self, function, *words, **named):
        self.callbacks.append((function, words, named))

    def run(self):
        """Undoes everything, the last first, whatever fails. Returns what failed."""
        failed = []
        while self.callbacks:
            function, words, named = self.callbacks.pop()
            try:
                function(*words, **named)
            except (RolloutError, BotoCoreError, ClientError, OSError) as error:
                failed.append(str(error))
        return failed


def report(account, release, rows, left):
    """The report. The account is shown by its last four digits, so that it can be pasted anywhere."""

    def cell(text):
        return " ".join(str(text).replace("|", "\\|").replace(account.aws.account, "123456789012").split())

    today = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d")
    lines = [
        f"# Acceptance of force-mfa {release}",
        "",
        f"{today}, account ending in {account.aws.account[-4:]}, partition `{account.aws.partition}`, `{account.aws.region}`.",
        "",
        "| step | expected | seen | result | took |",
        "|---|---|---|---|---|",
        *(f"| {cell(r.step)} | {cell(r.expected)} | {cell(r.seen)} | {r.result} | {r.took_s} s |" for r in rows),
        "",
        "Left behind: " + ("nothing." if not left else ""),
        *(f"- {cell(what)}" for what in left),
    ]
    return "\n".join(lines).rstrip() + "\n"


def run(account, arguments, steps=STEPS):
    refuse_used_account(account, arguments.with_console_users)
    confirm(account, arguments.account)
    clean_up = CleanUp()
    try:
        rows = try_steps(account, steps, clean_up)
    finally:
        # Ctrl-C ends the steps, not this.
        print("Cleaning up ...", flush=True)
        failed = clean_up.run()
        left = account.left_behind()
        for what in failed + left:
            print(f"Left behind: {what}", file=sys.stderr)
    text = report(account, account.release(), rows, left)
    arguments.report.parent.mkdir(parents=True, exist_ok=True)
    arguments.report.write_text(text, "utf-8")
    print(f"\n{text}\nThe report is in {arguments.report}.")
    return 1 if left or any(row.result != "as expected" for row in rows) else 0


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--account", default="", help="number of the account, instead of the question")
    parser.add_argument("--with-console-users", action="store_true", help="go on in an account that has console users")
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    parser.add_argument("--command", type=Path, default=target / "debug/force-mfa", help="the built command")
    parser.add_argument("--zip", type=Path, help="the function's zip for arm64; without it, the zip is built")
    parser.add_argument("--report", type=Path, default=ROOT / "target/acceptance.md", help="where the report is written")
    arguments = parser.parse_args(words)
    try:
        return run(SandboxAccount(arguments.command, arguments.zip), arguments)
    except RolloutError as error:
        print(f"{NAME} acceptance: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped; what was created is deleted, except what is listed above", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
