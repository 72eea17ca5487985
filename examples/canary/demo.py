"""The demo: a canary rollout on a small cluster of network namespaces, on real traffic.

Brings a lab up, sends requests, changes the route while they run, compares with no mesh, and cleans up. Ends
with 1 if anything was not as it should be.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec

HERE = Path(__file__).resolve().parent
MESHD = (sys.executable, "-m", "meshd")
LAB = f"demo{os.getpid()}"
SPLIT_REQUESTS = 2000
CANARY_WEIGHT = 10
EFFECT_SECONDS = 10.0
COMMAND_SECONDS = 120.0

_COLOUR = sys.stdout.isatty() and "NO_COLOR" not in os.environ


class DemoError(Exception):
    """A command of the demo failed; the message says which and what it said."""


def main() -> int:
    """Run the whole demo; 0 when all was as it should be."""
    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="meshd-demo-") as folder:
            manifests = Path(folder) / "canary"
            shutil.copytree(HERE, manifests)
            with lab(manifests):
                results = [*show(manifests)]
    except DemoError as failure:
        print(paint("31", f"\nThe demo failed: {failure}"), file=sys.stderr)
        return 1
    failed = results.count(False)
    seconds = time.monotonic() - began
    if failed:
        print(paint("31", f"\n{failed} of {len(results)} checks failed ({seconds:.0f} s)."))
        return 1
    print(paint("32", f"\nAll {len(results)} checks passed, everything removed, in {seconds:.0f} s."))
    return 0


def show(manifests: Path) -> Iterator[bool]:
    """The acts, each with whether it went as it should."""
    yield split_by_weight()
    yield testers_see_v2()
    yield promoted_live(manifests)
    yield compared_with_no_mesh()
    yield status()


def split_by_weight() -> bool:
    """The canary gets its share."""
    title("Requests to http://web/ are split by weight: 90 to v1, 10 to v2")
    versions = load("http://web/", SPLIT_REQUESTS).versions()
    bars(versions)
    share = 100 * versions["v2"] / SPLIT_REQUESTS
    # Four standard deviations of 2,000 draws at 10 % are 2.7 points.
    return check(abs(share - CANARY_WEIGHT) < 3, f"v2 got {share:.1f} % of {SPLIT_REQUESTS} requests")


def testers_see_v2() -> bool:
    """A header match wins over the split."""
    title("A request with the header x-user: tester goes to v2")
    versions = load("http://web/", 200, "--header", "x-user: tester").versions()
    bars(versions)
    return check(set(versions) == {"v2"}, "every tester's request went to v2")


def promoted_live(manifests: Path) -> bool:
    """The weight changes while requests run."""
    title("v2 is promoted to 100 % by editing the route, while requests run")
    route = manifests / "route.yaml"
    with running_load("http://web/", "--seconds", "4") as process:
        time.sleep(1.5)
        text = route.read_text()
        promoted = re.sub(r"weight: 90\b", "weight: 0", re.sub(r"weight: 10\b", "weight: 100", text))
        if promoted == text:
            raise DemoError(f"{route.name} does not have the weights 90 and 10")
        route.write_text(promoted)
        edited = time.time()
        meshd("lab", "--name", LAB, "apply", "-f", str(route))
        report = finished(process)
    before = Report([answer for answer in report.answers if answer.at < edited], 0)
    after = [answer for answer in report.answers if answer.at >= edited]
    last_v1 = max((answer.at for answer in after if answer.version == "v1"), default=edited)
    print("  before the edit:")
    bars(before.versions())
    print(f"  from {last_v1 - edited:.2f} s after the edit:")
    bars(Report([answer for answer in after if answer.at > last_v1], 0).versions())
    effect = check(
        before.versions()["v1"] > 0 and after[-1].version == "v2" and last_v1 - edited < EFFECT_SECONDS,
        f"the new weights took effect {last_v1 - edited:.2f} s after the edit",
    )
    return check(report.errors == 0, f"no request of {len(report.answers)} failed") and effect


def compared_with_no_mesh() -> bool:
    """The price of the slow path, on this machine, now."""
    title("Latency of one connection, interleaved with the same requests without the mesh")
    pods = json.loads(meshd("lab", "--name", LAB, "status", "-o", "json"))["pods"]
    address = next(pod["ip"] for pod in pods if pod["name"].startswith("web-v2"))
    mesh: list[float] = []
    direct: list[float] = []
    for _ in range(3):
        direct += times(load(f"http://{address}:8080/", 400))
        mesh += times(load("http://web/", 400))
    for name, taken in (("no mesh, pod IP", direct), ("meshd, routed", mesh)):
        taken.sort()
        median, p99 = taken[len(taken) // 2], taken[len(taken) * 99 // 100]
        print(f"  {name:<16} p50 {median:6.3f} ms   p99 {p99:6.3f} ms   ({len(taken)} requests)")
    return check(len(mesh) == len(direct) == 1200, "all of them were answered")


def times(report: Report) -> list[float]:
    """Milliseconds of every answer."""
    return [answer.milliseconds for answer in report.answers]


def status() -> bool:
    """What an operator sees."""
    title("meshd status")
    ours = []
    for node in ("node1", "node2"):
        instance = ("--instance", f"{LAB}-{node}")
        print(indented(meshd("status", *instance)))
        ours += json.loads(meshd("status", *instance, "-o", "json"))["nodes"]
    problems = [
        problem for node in ours for found in node["objects"] for problem in found.get("problems", [])
    ]
    serving = [worker["state"] == "serving" for node in ours for worker in node["workers"]]
    return check(
        bool(ours) and not problems and all(serving) and all(node["control"]["connected"] for node in ours),
        f"{len(ours)} nodes, all workers serve, no problems",
    )


@contextlib.contextmanager
def lab(manifests: Path) -> Iterator[None]:
    """The cluster, for the time of the body."""
    title("A cluster of two nodes on this machine: client, web v1, web v2, and a canary route")
    began = time.monotonic()
    try:
        meshd("lab", "--name", LAB, "up", "--nodes", "2", "-f", str(manifests))
        print(f"  up in {time.monotonic() - began:.1f} s")
        print(indented(meshd("lab", "--name", LAB, "status")))
        yield
    finally:
        meshd("lab", "--name", LAB, "down")


class Answer(msgspec.Struct):
    """One answer: when it came (Unix time, seconds), how long it took, and which version gave it."""

    at: float
    milliseconds: float
    version: str


class Report(msgspec.Struct):
    """What load.py saw."""

    answers: list[Answer]
    errors: int

    def versions(self) -> Counter[str]:
        """Answers by version."""
        return Counter(answer.version for answer in self.answers)


def load(url: str, count: int, *more: str) -> Report:
    """Send requests from the client pod, one after the other on one connection. Raises DemoError."""
    with running_load(url, "--count", str(count), *more) as process:
        report = finished(process)
    if report.errors:
        raise DemoError(f"{report.errors} of {count} requests to {url} failed")
    return report


@contextlib.contextmanager
def running_load(url: str, *more: str) -> Iterator[subprocess.Popen[str]]:
    """load.py in the client pod, for the time of the body."""
    pod = ("lab", "--name", LAB, "exec", "deploy/client", "--")
    process = subprocess.Popen(
        [*MESHD, *pod, "/usr/bin/python3", str(HERE / "load.py"), url, *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def finished(process: subprocess.Popen[str]) -> Report:
    """The report of a load that ends by itself. Raises DemoError."""
    output, errors = process.communicate(timeout=COMMAND_SECONDS)
    if process.returncode:
        raise DemoError(f"the load in the client pod ended with {process.returncode}: {errors.strip()}")
    return msgspec.json.decode(output, type=Report)


def meshd(*arguments: str) -> str:
    """Run a meshd command; its output. Raises DemoError."""
    done = subprocess.run(
        [*MESHD, *arguments], capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False
    )
    if done.returncode:
        raise DemoError(f"meshd {' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.rstrip()


def title(text: str) -> None:
    """Begin an act."""
    print(paint("1;36", f"\n▸ {text}"), flush=True)


def bars(versions: Counter[str]) -> None:
    """A bar for each version."""
    total = sum(versions.values())
    for version, colour in (("v1", "34"), ("v2", "35")):
        share = versions[version] / total if total else 0.0
        bar = paint(colour, "█" * round(40 * share))
        print(f"  {version} {100 * share:5.1f} %  {bar}")


def check(good: bool, what: str) -> bool:
    """Say whether something is as it should be."""
    print(f"  {paint('32', '✔') if good else paint('31', '✘')} {what}", flush=True)
    return good


def indented(text: str) -> str:
    """Two spaces before each line."""
    return "\n".join(f"  {line}" for line in text.splitlines())


def paint(colour: str, text: str) -> str:
    """In colour, on a terminal."""
    return f"\033[{colour}m{text}\033[0m" if _COLOUR else text


if __name__ == "__main__":
    sys.exit(main())
