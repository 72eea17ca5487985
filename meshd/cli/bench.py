"""``meshd bench``: what does a mesh cost? The same load without one, through sidecars, and through meshd."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from meshd.bench import machine, plan, results
from meshd.bench.guards import BusyError
from meshd.bench.plan import Plan
from meshd.bench.report import FORMS, render
from meshd.bench.results import PLACEMENTS, PROTOCOLS, SCENARIOS, Report, ResultsError
from meshd.bench.running import Benchmark
from meshd.bench.testbed import MAX_PREFIX, Bed
from meshd.cli import bench_kube
from meshd.cli.errors import CommandError

_T = TypeVar("_T")
_SIZES = {"": 1, "k": 1024, "m": 1024 * 1024}
_INTERRUPTED = 130
_MINUTES = 30
"""Of the standard set: a slow machine's report has fewer rounds."""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "bench", help="measure what a mesh costs, and what meshd does", description=__doc__
    )
    many = "; several, separated by commas"
    parser.add_argument(
        "--scenario", type=_listed(_among(SCENARIOS)), default=(), metavar="NAME",
        help=f"{', '.join(SCENARIOS)}{many} (default: all)",
    )  # fmt: skip
    parser.add_argument(
        "--placement", type=_listed(_among(PLACEMENTS)), default=(), metavar="NAME",
        help=f"{' or '.join(PLACEMENTS)}{many} (default: both)",
    )  # fmt: skip
    loads = parser.add_argument_group(
        "loads",
        "Without these a standard set of loads is run; with any of them, all combinations of what is given.",
    )
    loads.add_argument(
        "--connections", type=_listed(_number(1, plan.MAX_CONNECTIONS)), default=(), metavar="N",
        help=f"keep-alive connections of the client; over HTTP/2 and gRPC the streams of one{many}",
    )  # fmt: skip
    loads.add_argument(
        "--body", type=_listed(_size), default=(), metavar="SIZE",
        help=f"bytes of the answers, as 16, 16k or 1m{many}",
    )  # fmt: skip
    loads.add_argument(
        "--protocol", type=_listed(_among(PROTOCOLS)), default=(), metavar="NAME",
        help=f"{', '.join(PROTOCOLS)}{many}; http1-close is a new connection for each request, grpc are unary"
        " calls, grpc-stream messages to and fro on open streams",
    )  # fmt: skip
    loads.add_argument(
        "--route", type=_listed(_among(("no", "yes"))), default=(), metavar="no|yes",
        help="whether a route decides that matches on path, header and weight; or both, separated by a comma",
    )  # fmt: skip
    loads.add_argument(
        "--rate", type=_listed(_number(1, plan.MAX_RATE)), default=(), metavar="N",
        help=f"open loop: so many requests a second, whatever the answers do{many} (default: closed loop)",
    )  # fmt: skip
    parser.add_argument(
        "--rounds", type=_number(1, 100), metavar="N",
        help="default: 3 of the standard set, 2 with --quick, 5 of loads of your own",
    )  # fmt: skip
    parser.add_argument(
        "--duration", type=_number(1, 600), metavar="SECONDS",
        help="of each run (default: 1; of loads of your own 2)",
    )  # fmt: skip
    parser.add_argument(
        "--minutes", type=_number(1, 1440), metavar="N",
        help="begin nothing more after so many; the report is partial then (default: 30 of the standard set)",
    )  # fmt: skip
    parser.add_argument(
        "--memory-pods", type=_listed(_number(0, 300)), metavar="N",
        help=f"measure the mesh's memory with so many pods on a node{many}; 0: not at all (default:"
        f" {','.join(map(str, plan.MEMORY_PODS))}; with --quick or with loads of your own: 0)",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="the order of things, in less than 90 seconds")
    parser.add_argument(
        "-o", choices=(*FORMS, bench_kube.DRY_FORM), default="md", dest="format",
        help=f"default: md; {bench_kube.DRY_FORM} is what --dry-run prints",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="where to write it (default: standard output)"
    )
    parser.add_argument(
        "--from", type=Path, dest="source", metavar="FILE",
        help="measure nothing: show the report of an earlier run, which was written with -o json",
    )  # fmt: skip
    bench_kube.add_options(parser)
    parser.add_argument(
        "--name",
        default="bench",
        help=f"how the labs' names begin, 1 to {MAX_PREFIX} letters (default: bench)",
    )
    parser.set_defaults(run=run, parser=parser)


def run(args: argparse.Namespace) -> int:
    """Measure and report. Raises CommandError."""
    if reason := bench_kube.misuse(args):
        args.parser.error(reason)
    if args.source is not None:
        _write(args, _earlier(args.source))
        return 0
    chosen = _plan(args)
    command = shlex.join(["meshd", *sys.argv[1:]])
    _require_output(args)
    if args.kube:
        found = bench_kube.measure(args, chosen, command, _say)
        if found is None:
            return 0
        report, interrupted = found
        _write(args, report)
        return _INTERRUPTED if interrupted else 0
    _require(args, chosen)
    benchmark = Benchmark(chosen, args.name, command, _say)
    try:
        report = benchmark.run()
    except BusyError as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"the benchmark failed: {error}") from error
    _write(args, report)
    return _INTERRUPTED if benchmark.interrupted else 0


def _plan(args: argparse.Namespace) -> Plan:
    own = bool(args.connections or args.body or args.protocol or args.route or args.rate)
    if args.quick and own:
        args.parser.error("--quick has its own loads: leave out the options of loads, or --quick")
    placements = plan.ordered_placements(args.placement)
    if own:
        routes = tuple(one == "yes" for one in args.route)
        loads = plan.chosen_loads(placements, args.connections, args.body, args.protocol, routes, args.rate)
    else:
        loads = plan.quick_loads(placements) if args.quick else plan.standard_loads(placements)
    memory = args.memory_pods
    if memory is None:
        memory = () if args.quick or own else plan.MEMORY_PODS
    return Plan(
        scenarios=plan.ordered(args.scenario or (plan.QUICK_SCENARIOS if args.quick else SCENARIOS)),
        loads=loads,
        rounds=args.rounds or (5 if own else 2 if args.quick else 3),
        seconds=args.duration or (2 if own else 1),
        memory_pods=tuple(sorted(set(memory) - {0})),
        quick=args.quick,
        minutes=args.minutes or (None if own or args.quick or args.kube else _MINUTES),
    )


def _require(args: argparse.Namespace, chosen: Plan) -> None:
    try:
        Bed.named(args.name, "direct", Path())
        if len(args.name) > MAX_PREFIX:
            raise ValueError(f"{args.name!r} has more than {MAX_PREFIX} letters")
    except ValueError as error:
        args.parser.error(f"--name: {error}")
    if os.geteuid() != 0:
        raise CommandError("needs root: it makes network namespaces and cgroups")
    if missing := machine.missing(chosen.scenarios, [load.protocol for load in chosen.loads]):
        raise CommandError("; ".join(missing))


def _require_output(args: argparse.Namespace) -> None:
    if args.output is not None and not args.output.absolute().parent.is_dir():
        raise CommandError(f"--output {args.output}: there is no folder {args.output.absolute().parent}")


def _earlier(source: Path) -> Report:
    try:
        return results.decode(source.read_bytes())
    except (OSError, ResultsError) as error:
        raise CommandError(f"--from {source}: {error}") from error


def _write(args: argparse.Namespace, report: Report) -> None:
    text = render(report, args.format)
    if args.output is None:
        print(text, end="")
        return
    try:
        args.output.write_text(text)
    except OSError as error:
        print(text, end="")  # what took so long to find is not thrown away
        raise CommandError(f"--output: {error}; the report is on standard output") from error


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _listed(one: Callable[[str], _T]) -> Callable[[str], Sequence[_T]]:
    """Of a list separated by commas."""
    return lambda text: tuple(map(one, text.split(",")))


def _among(names: Sequence[str]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(names)}")
        return text

    return parse


def _number(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {least} to {most}")
        return int(text)

    return parse


def _size(text: str) -> int:
    digits = text.rstrip("kKmM")
    unit = _SIZES.get(text[len(digits) :].lower())
    if not digits.isdecimal() or unit is None or not 1 <= int(digits) * unit <= plan.MAX_BODY:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a size of 1 byte to {plan.MAX_BODY >> 20}m, as 16, 16k or 1m"
        )
    return int(digits) * unit
