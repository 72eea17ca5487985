"""``meshd bench --kube``: its options, and what it does."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from meshd.bench.kube.cluster import ClusterBenchmark, LeftoverError
from meshd.bench.kube.dry_run import dry_run
from meshd.bench.kube.kubectl import Kubectl, KubectlError
from meshd.bench.kube.options import Options, sidecar_label
from meshd.bench.plan import Plan
from meshd.bench.results import Report
from meshd.cli.errors import CommandError

_DEFAULT = Options()
DRY_FORM = "yaml"
"""Of what would be created."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a cluster."""
    kube = parser.add_argument_group(
        "on a cluster",
        "kubectl leads to it. Namespaces named meshd-bench… are made, and deleted at the end.",
    )
    kube.add_argument(
        "--kube", action="store_true", help="measure on a Kubernetes cluster: a Job for each run"
    )
    kube.add_argument(
        "--dry-run", action="store_true", help="print what --kube would create, as YAML, and do nothing"
    )
    kube.add_argument("--context", metavar="NAME", help="kubectl's (default: the current one)")
    kube.add_argument("--image", help=f"has meshd, wrk and h2load: the client's (default: {_DEFAULT.image})")
    kube.add_argument(
        "--server-image",
        metavar="IMAGE",
        help=f"has nginx: the servers' (default: {_DEFAULT.server_image})",
    )
    kube.add_argument(
        "--sidecar-label",
        type=_label,
        metavar="KEY=VALUE",
        help=f"the namespace label that injects sidecars (default: {'='.join(_DEFAULT.sidecar_label)})",
    )


def misuse(args: argparse.Namespace) -> str:
    """Which option has no meaning beside the others; empty: none."""
    if args.source is not None and (args.kube or args.dry_run):
        return "--from measures nothing: leave out --kube and --dry-run, or --from"
    if args.format == DRY_FORM and not args.dry_run:
        return f"-o {DRY_FORM} is for --dry-run"
    if args.kube:
        return "--memory-pods is not for --kube: a pod cannot read others' memory" if args.memory_pods else ""
    for name in ("dry_run", "context", "image", "server_image", "sidecar_label"):
        if getattr(args, name):
            return f"--{name.replace('_', '-')} is for --kube"
    return ""


def measure(
    args: argparse.Namespace, plan: Plan, command: str, say: Callable[[str], None]
) -> tuple[Report, bool] | None:
    """Measure on the cluster: the report, and whether it was interrupted; None: it was a dry run.

    Raises CommandError.
    """
    options = Options(
        args.image or _DEFAULT.image,
        args.server_image or _DEFAULT.server_image,
        args.sidecar_label or _DEFAULT.sidecar_label,
        args.context or _DEFAULT.context,
    )
    if args.dry_run:
        sys.stdout.write(dry_run(plan, options))
        return None
    benchmark = ClusterBenchmark(plan, options, Kubectl(options.context), command, say)
    try:
        return benchmark.run(), benchmark.interrupted
    except (KubectlError, LeftoverError) as error:
        raise CommandError(str(error)) from error


def _label(text: str) -> tuple[str, str]:
    try:
        return sidecar_label(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
