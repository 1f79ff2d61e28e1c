#!/usr/bin/env python3
"""Measure the function beside an empty Rust function (the floor) and a boto3 one.

Each run is a fresh process. It is given a Runtime API and an HTTPS IAM, both played on
loopback by this script, and events one after another. The three functions take turns, so
that whatever else the machine does meets them all alike; the figures are medians.

`make bench` builds what this needs and runs it. Exit status 1: a bound does not hold.
"""

import argparse
import base64
import collections
import io
import json
import os
import pathlib
import platform
import re
import select
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
import zipfile

import botocore
import trustme

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
POLICY_ARN = "arn:aws:iam::123456789012:policy/force-mfa"
FUNCTION = ROOT / "target/release/function"
FLOOR = ROOT / "target/floor/release/floor"
CANDIDATES = {
    "floor": [FLOOR],
    "function": [FUNCTION],
    "boto3": [sys.executable, "-m", "awslambdaric", "handler.handler"],
}
# The account that the sweep looks through.
USERS, CONSOLE_USERS, UNCOVERED = 5000, 3000, 10
FUNCTION_CPU, OWN_CPU = 1, 0


# ------------------------------------------------------------------ a small HTTP server


class Loop:
    """select() over all connections, in one thread: the stubs add no scheduling of their own."""

    def __init__(self):
        self.listeners, self.connections, self.timers = {}, {}, []

    def listen(self, server, tls=None):
        listener = socket.create_server(("127.0.0.1", 0))
        self.listeners[listener.fileno()] = (listener, server, tls)
        return listener.getsockname()[1]

    def later(self, seconds, call):
        self.timers.append((time.perf_counter() + seconds, call))

    def run_until(self, done, process, seconds=60):
        deadline = time.perf_counter() + seconds
        while not done():
            now = time.perf_counter()
            for timer in [timer for timer in self.timers if timer[0] <= now]:
                self.timers.remove(timer)
                timer[1]()
            if done():
                return
            if now > deadline:
                raise TimeoutError("no answer from the function")
            wait = min([0.2, *(max(0.0, due - now) for due, _ in self.timers)])
            ready = select.select([*self.listeners, *self.connections], [], [], wait)[0]
            if not ready and process.poll() is not None:
                raise ChildProcessError(f"the function ended with {process.returncode}")
            for descriptor in ready:
                if descriptor in self.listeners:
                    listener, server, tls = self.listeners[descriptor]
                    Connection(self, listener.accept()[0], server, tls)
                elif descriptor in self.connections:
                    self.connections[descriptor].readable()

    def close_all(self):
        self.timers.clear()
        for connection in list(self.connections.values()):
            connection.close()


class Connection:
    """HTTP/1.1 with keep-alive, over TLS or not."""

    def __init__(self, loop, sock, server, tls):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        if tls:
            sock = tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        self.loop, self.sock, self.server, self.buffer = loop, sock, server, b""
        self.handshaken = not tls
        server.connections += 1
        loop.connections[sock.fileno()] = self

    def close(self):
        self.loop.connections.pop(self.sock.fileno(), None)
        self.sock.close()

    def readable(self):
        try:
            if not self.handshaken:
                self.sock.do_handshake()
                self.handshaken = True
            while True:
                data = self.sock.recv(65536)
                if not data:
                    return self.close()
                self.buffer += data
                # To ask once more would cost every call an exception that says that there is nothing; select() tells of more,
                # but not of what TLS has read already.
                if not (isinstance(self.sock, ssl.SSLSocket) and self.sock.pending()):
                    break
        except (ssl.SSLWantReadError, BlockingIOError):
            pass
        except OSError:
            return self.close()
        while request := self.request():
            self.server.request(self, *request)

    def request(self):
        """The next request, when all of it is there."""
        head, found, rest = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return None
        line, *fields = head.decode("latin-1").split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
        if fields.get("transfer-encoding") == "chunked":
            body = b""
            while True:
                size, found, rest = rest.partition(b"\r\n")
                if not found or len(rest) < int(size, 16) + 2:
                    return None
                chunk, rest = rest[: int(size, 16)], rest[int(size, 16) + 2 :]
                if not chunk:
                    break
                body += chunk
        else:
            length = int(fields.get("content-length", 0))
            if len(rest) < length:
                return None
            body, rest = rest[:length], rest[length:]
        self.buffer = rest
        method, path, _ = line.split(" ", 2)
        return method, path, body

    def answer(self, status, body=b"", fields=(), kind="application/json"):
        lines = [f"HTTP/1.1 {status} -", f"Content-Type: {kind}", f"Content-Length: {len(body)}", *fields]
        data = "\r\n".join(lines).encode() + b"\r\n\r\n" + body
        try:
            data = data[self.sock.send(data) :]
        except (ssl.SSLWantWriteError, BlockingIOError):
            pass
        if data:  # a page of a list is more than the kernel takes at once
            self.sock.setblocking(True)
            self.sock.sendall(data)
            self.sock.setblocking(False)


class RuntimeApi:
    """https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html, one invocation at a time."""

    def __init__(self):
        self.reset()

    def reset(self):
        self.connections, self.waiting, self.reply, self.invocations = 0, None, None, 0

    def request(self, connection, _method, path, body):
        now = time.perf_counter()
        if path.endswith("/invocation/next"):
            self.waiting, self.asked_at = connection, now
        else:
            self.reply, self.replied_at = (path.rsplit("/", 1)[1], body), now
            connection.answer(202, b"{}")

    def hand_out(self, event):
        connection, self.waiting, self.reply = self.waiting, None, None
        self.invocations += 1
        fields = [
            f"Lambda-Runtime-Aws-Request-Id: 00000000-0000-4000-8000-{self.invocations:012d}",
            f"Lambda-Runtime-Deadline-Ms: {int((time.time() + 60) * 1000)}",
            "Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-1:123456789012:function:force-mfa",
        ]
        self.handed_out_at = time.perf_counter()
        connection.answer(200, event, fields)


class Iam:
    """As much of IAM's Query protocol as an event and a sweep use."""

    def __init__(self, loop):
        self.loop, self.latency = loop, 0.0
        self.pages = account_pages()
        self.reset()

    def reset(self):
        self.connections, self.attached = 0, []
        self.calls = collections.Counter()

    def request(self, connection, method, _path, body):
        if method != "POST":  # a connection being warmed: no API call
            return connection.answer(302, fields=["Location: https://aws.amazon.com/iam"])
        form = dict(urllib.parse.parse_qsl(body.decode()))
        action = form["Action"]
        self.calls[action] += 1
        if action == "AttachUserPolicy" and form["PolicyArn"] == POLICY_ARN:
            self.attached.append(form["UserName"])
        result = self.pages.get((action, int(form.get("Marker", 0))), "")
        xml = (
            f'<{action}Response xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><{action}Result>{result}</{action}Result>'
            f"<ResponseMetadata><RequestId>7a62c49f-347e-4fc4-9331-6e8eaaaaaaaa</RequestId></ResponseMetadata></{action}Response>"
        ).encode()
        if self.latency:
            self.loop.later(self.latency, lambda: connection.answer(200, xml, kind="text/xml"))
        else:
            connection.answer(200, xml, kind="text/xml")


def account_pages():
    """IAM's answers about an account of USERS users, by action and marker."""
    console = [f"user-{n:04}" for n in range(CONSOLE_USERS)]
    users = console + [f"service-{n:04}" for n in range(USERS - CONSOLE_USERS)]
    created = "2026-01-01T00:00:00Z"

    def arn(user):
        return f"arn:aws:iam::123456789012:user/staff/{user}"

    columns = (
        "user,arn,user_creation_time,password_enabled,password_last_used,password_last_changed,password_next_rotation,"
        "mfa_active,access_key_1_active,access_key_1_last_rotated,access_key_1_last_used_date,access_key_1_last_used_region,"
        "access_key_1_last_used_service,access_key_2_active,access_key_2_last_rotated,access_key_2_last_used_date,"
        "access_key_2_last_used_region,access_key_2_last_used_service,cert_1_active,cert_1_last_rotated,cert_2_active,"
        "cert_2_last_rotated"
    )
    rows = [columns]
    for n, user in enumerate(users):
        password = f"true,no_information,{created},N/A" if n < CONSOLE_USERS else "false,N/A,N/A,N/A"
        mfa = "true" if n % 2 else "false"
        keys_and_certificates = ",false,N/A,N/A,N/A,N/A" * 2 + ",false,N/A" * 2
        rows.append(f"{user},{arn(user)},{created},{password},{mfa}{keys_and_certificates}")
    report = base64.b64encode("\n".join(rows).encode()).decode()

    pages = {
        ("GenerateCredentialReport", 0): "<State>COMPLETE</State>",
        ("GetCredentialReport", 0): f"<Content>{report}</Content><ReportFormat>text/csv</ReportFormat>"
        f"<GeneratedTime>{created}</GeneratedTime>",
        ("GetPolicy", 0): f"<Policy><Arn>{POLICY_ARN}</Arn><DefaultVersionId>v1</DefaultVersionId>"
        "<CreateDate>2025-01-01T00:00:00Z</CreateDate></Policy>",
        ("GetPolicyVersion", 0): "<PolicyVersion><Document>%7B%7D</Document></PolicyVersion>",
        ("GetLoginProfile", 0): f"<LoginProfile><UserName>user</UserName><CreateDate>{created}</CreateDate></LoginProfile>",
    }

    def paged(action, before, members, after, member):
        for start in range(0, len(members), 1000):
            more = start + 1000 < len(members)
            page = "".join(f"<member>{member(user)}</member>" for user in members[start : start + 1000])
            marker = f"<Marker>{start + 1000}</Marker>" if more else ""
            pages[action, start] = f"{before}{page}{after}<IsTruncated>{str(more).lower()}</IsTruncated>{marker}"

    paged(
        "ListUsers", "<Users>", users, "</Users>",
        lambda user: f"<Path>/staff/</Path><UserName>{user}</UserName><UserId>AIDACKCEVSQ6C2EXAMPLE</UserId>"
        f"<Arn>{arn(user)}</Arn><CreateDate>{created}</CreateDate>",
    )
    paged(
        "ListEntitiesForPolicy", "<PolicyGroups/><PolicyRoles/><PolicyUsers>", console[UNCOVERED:], "</PolicyUsers>",
        lambda user: f"<UserName>{user}</UserName><UserId>AIDACKCEVSQ6C2EXAMPLE</UserId>",
    )
    return pages


# ------------------------------------------------------------------------ one run


class Bench:
    def __init__(self, directory):
        authority = trustme.CA(key_type=trustme.KeyType.RSA)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost", key_type=trustme.KeyType.RSA).configure_cert(tls)
        tls.set_alpn_protocols(["http/1.1"])
        # A trust store of the usual size, so that reading it costs what it costs.
        roots = directory / "roots.pem"
        usual = pathlib.Path(botocore.__file__).with_name("cacert.pem")
        roots.write_bytes(usual.read_bytes() + authority.cert_pem.bytes())
        self.loop = Loop()
        self.api, self.iam = RuntimeApi(), Iam(self.loop)
        self.log = (directory / "log").open("w+b")
        self.environment = {
            "PATH": os.environ["PATH"],
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self.loop.listen(self.api)}",
            "AWS_LAMBDA_FUNCTION_NAME": "force-mfa",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
            "AWS_LAMBDA_LOG_FORMAT": "JSON",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            "AWS_SESSION_TOKEN": "token",
            "AWS_ENDPOINT_URL_IAM": f"https://localhost:{self.loop.listen(self.iam, tls)}",
            "SSL_CERT_FILE": str(roots),
            "AWS_CA_BUNDLE": str(roots),
            "FORCE_MFA_POLICY_ARN": POLICY_ARN,
            "LAMBDA_TASK_ROOT": str(HERE / "boto3"),
        }
        self.template = (HERE / "event.json").read_text()

    def run(self, name, warm=0, events=None, latency=0.0, share=None, under=()):
        """Starts the candidate, gives it the events (default: one and `warm` more), ends it."""
        self.loop.close_all()
        self.api.reset()
        self.iam.reset()
        self.iam.latency = latency
        # Of an event that is older than 15 minutes the function looks the password up first.
        template = self.template.replace("{time}", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
        events = events or [template.replace("{user}", f"user-{n:04}") for n in range(1 + warm)]
        os.sched_setaffinity(0, {FUNCTION_CPU})  # handed down to the child
        started_at = time.perf_counter()
        process = subprocess.Popen(
            [*under, *CANDIDATES[name]], cwd=HERE / "boto3", env=self.environment, stdout=self.log, stderr=self.log
        )
        os.sched_setaffinity(0, {OWN_CPU})
        try:
            self.loop.run_until(lambda: self.api.waiting, process)
            init = self.api.asked_at - started_at
            if share:
                share.take(process.pid)
            times, cpu = [], [cpu_seconds(process.pid)]
            calls, connections, pages = [0], [0], []
            for event in events:
                self.api.hand_out(event.encode())
                self.loop.run_until(lambda: self.api.reply and self.api.waiting, process)
                kind, body = self.api.reply
                if kind != "response":
                    raise AssertionError(f"{name} failed: {body.decode()}")
                times.append(self.api.replied_at - self.api.handed_out_at)
                cpu.append(cpu_seconds(process.pid))
                pages.append(pages_touched(process.pid))
                calls.append(self.iam.calls.total())
                connections.append(self.iam.connections)
            expected = [f"user-{n:04}" for n in range(len(events) if events[0] != SWEEP else UNCOVERED)]
            if name != "floor" and sorted(self.iam.attached) != expected:
                raise AssertionError(f"{name} attached the policy to {self.iam.attached}")
            figures = {
                "init": init * 1e3,
                "first": times[0] * 1e3,
                "cold": (init + times[0]) * 1e3,
                "cpu_first": (cpu[1] - cpu[0]) * 1e3,
                "pages": pages[0],
                "rss": int(re.search(r"VmHWM:\s+(\d+)", pathlib.Path(f"/proc/{process.pid}/status").read_text())[1]) / 1024,
            }
            if len(events) > 1:
                warm_times = sorted(times[1:])
                figures |= {
                    "p50": statistics.median(warm_times) * 1e3,
                    "p99": warm_times[len(warm_times) * 99 // 100] * 1e3,
                    "cpu": (cpu[-1] - cpu[1]) / len(warm_times) * 1e3,
                    "calls": (calls[-1] - calls[1]) / len(warm_times),
                    "connections": (connections[-1] - connections[1]) / len(warm_times),
                }
            return figures
        except (AssertionError, OSError) as problem:
            self.log.seek(max(0, self.log.tell() - 2000))
            sys.exit(f"{name}: {problem}\n{self.log.read().decode(errors='replace')}")
        finally:
            process.terminate()  # valgrind writes its file then
            process.wait()


SWEEP = '{"sweep": {}}'


def cpu_seconds(pid):
    """What the process has used of any CPU, by its own clock (Linux: clock_getcpuclockid)."""
    return time.clock_gettime((~pid << 3) | 2)


def pages_touched(pid):
    """Minor page faults of the process: each is a page of memory, or a few of a file, that it had not touched before."""
    stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[7])


class CpuShare:
    """The share of a CPU that Lambda gives 128 MB: 128 of 1,769. Needs root and the cgroup v1 cpu controller."""

    PERIOD = 20_000

    def __init__(self):
        self.directory = pathlib.Path(f"/sys/fs/cgroup/cpu/force-mfa-bench-{os.getpid()}")

    def __enter__(self):
        self.directory.mkdir()
        (self.directory / "cpu.cfs_period_us").write_text(str(self.PERIOD))
        (self.directory / "cpu.cfs_quota_us").write_text(str(self.PERIOD * 128 // 1769))
        return self

    def take(self, pid):
        (self.directory / "cgroup.procs").write_text(str(pid))

    def __exit__(self, *_):
        self.directory.rmdir()


def zip_mib(path):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.write(path, "bootstrap")
    return len(packed.getvalue()) / 2**20


def instructions(bench, name):
    """Instructions of init and one event; they do not depend on what else the machine does."""
    with tempfile.NamedTemporaryFile() as out:
        bench.run(name, under=["valgrind", "--quiet", "--tool=callgrind", f"--callgrind-out-file={out.name}"])
        return int(re.search(r"^(?:totals|summary): (\d+)", pathlib.Path(out.name).read_text(), re.MULTILINE)[1])


# ------------------------------------------------------------------------- report


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--reps", type=int, default=15, help="runs of each function (%(default)s)")
    parser.add_argument("--warm", type=int, default=500, help="events after a run's first (%(default)s)")
    parser.add_argument("--rt", action="store_true", help="run before all else (root): true times on a busy machine, at its cost")
    options = parser.parse_args()
    if os.cpu_count() < 2:
        sys.exit("This needs two CPUs, one for the function and one for the stubs.")
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(pathlib.Path(directory))
        before = machine_jiffies()
        if options.rt:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))  # handed down to the functions
        runs = {name: [] for name in CANDIDATES}
        for _ in range(options.reps):
            for name in CANDIDATES:
                runs[name].append(bench.run(name, options.warm))
        sweeps = [bench.run("function", events=[SWEEP]) for _ in range(options.reps)]
        busy, total = (after - before for after, before in zip(machine_jiffies(), before))
        others = max(0, busy - own_jiffies()) / total
        throttled = None
        if options.rt:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))  # a CPU share does not bind a real-time process
        try:
            with CpuShare() as share:
                throttled = [bench.run("function", latency=0.02, share=share)["cold"] for _ in range(options.reps)]
        except OSError:
            pass
        counts = {}
        if shutil.which("valgrind"):
            counts = {name: instructions(bench, name) for name in ("floor", "function")}
    held = report(runs, sweeps, throttled)
    print()
    for name, count in counts.items():
        print(f"{count / 1e6:.2f} million instructions for init and one event: {name}")
    if not counts:
        print("Instructions were not counted: valgrind is not installed.")
    if throttled is None:
        print("The CPU share of 128 MB was not tried: it needs root and the cgroup v1 cpu controller.")
    print(f"{platform.machine()}, {os.cpu_count()} CPUs ({cpu_model()}), Linux {platform.release()}, {time.strftime('%Y-%m-%d')}; "
          f"{options.reps} interleaved runs, medians; other processes used {others:.0%} of the CPUs meanwhile.")
    return 0 if held else 1


def report(runs, sweeps, throttled):
    median = {
        name: {figure: statistics.median(run[figure] for run in results) for figure in results[0]}
        for name, results in runs.items()
    }
    floor, function, boto3 = median["floor"], median["function"], median["boto3"]
    zips = {"floor": zip_mib(FLOOR), "function": zip_mib(FUNCTION)}

    def times_floor(label, figure, bound, goal):
        measured = [f"{median[name][figure]:.3g} ms" for name in ("floor", "function", "boto3")]
        return label, *measured, function[figure] / floor[figure], "× floor, at most", bound, goal

    def times_faster(label, figure, bound, goal):
        return label, "", "", "", boto3[figure] / function[figure], "× faster than boto3, at least", bound, goal

    def at_most(label, unit, value, bound, goal, beside=("", "")):
        shown = "" if value is None else f"{value:.3g} {unit}".strip()
        return label, beside[0], shown, beside[1], value, f"{unit} at most".strip(), bound, goal

    sweep = {figure: statistics.median(run[figure] for run in sweeps) for figure in ("cpu_first", "rss")}
    rows = [
        times_floor("cold = init + first call", "cold", 3.0, 2.5),
        times_faster("", "cold", 55, 65),
        times_floor("init, with the connection", "init", 3.0, 2.3),
        times_floor("first call", "first", 4.0, 3.0),
        times_floor("warm call, p50", "p50", None, None),
        times_faster("", "p50", 2.8, 4),
        times_floor("warm call, p99", "p99", None, None),
        times_faster("", "p99", 2.8, 4),
        times_floor("CPU of a warm call", "cpu", 5.0, 3.5),
        at_most("page faults of a cold start", "", function["pages"], None, None, [f"{median[name]['pages']:.0f}" for name in ("floor", "boto3")]),
        at_most("memory (RSS)", "MB", function["rss"], 8, 5, [f"{median[name]['rss']:.3g} MB" for name in ("floor", "boto3")]),
        at_most("zip", "MiB", zips["function"], 2.2, 2.0, [f"{zips['floor']:.3g} MiB", ""]),
        at_most("IAM calls of a warm call", "", function["calls"], 1, 1, ["", f"{boto3['calls']:.3g}"]),
        at_most("new connections of a warm call", "", function["connections"], 0, 0, ["", f"{boto3['connections']:.3g}"]),
        at_most("cold at 128 MB, IAM 20 ms away", "ms", throttled and statistics.median(throttled), 30, 24),
        at_most(f"sweep of {USERS} users, memory", "MB", sweep["rss"], 60, 60),
        at_most(f"sweep of {USERS} users, CPU with its calls", "ms", sweep["cpu_first"], None, None),
    ]
    print("| | floor | function | boto3 | figure | bound | goal | |\n|---|---|---|---|---|---|---|---|")
    held = True
    for label, *measured, value, unit, bound, goal in rows:
        verdict = "-"
        if value is not None and bound is not None:
            reaches = (lambda limit: value >= limit) if "least" in unit else (lambda limit: value <= limit)
            verdict = "goal" if reaches(goal) else "holds" if reaches(bound) else "**missed**"
            held &= verdict != "**missed**"
        figure = f"{value:.3g}" if value is not None else "not measured"
        limits = f"{bound} {unit} | {goal}" if bound is not None else " | "
        print(f"| {label} | {' | '.join(measured)} | {figure} | {limits} | {verdict} |")
    return held


def machine_jiffies():
    """CPU time that all processes have used, and that there was, since the machine started."""
    user, nice, system, idle, wait, irq, softirq, steal = map(int, pathlib.Path("/proc/stat").read_text().split()[1:9])
    busy = user + nice + system + irq + softirq
    return busy, busy + idle + wait + steal


def own_jiffies():
    return sum(os.times()[:4]) * os.sysconf("SC_CLK_TCK")


def cpu_model():
    found = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return found[1] if found else "unknown model"


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main())
