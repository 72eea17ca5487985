"""``meshd lab``: a small cluster on this machine."""

from __future__ import annotations

import argparse
import os
import sys
import time

import msgspec

from meshd.cli.errors import CommandError
from meshd.cli.lab_text import followed, status_text
from meshd.lab.command.client import LabError, ask
from meshd.lab.command.entering import CommandNotRunError, become, find_pod
from meshd.lab.command.launch import launch, wait_until_ready
from meshd.lab.command.protocol import Apply, Delete, Done, GetStatus, Status
from meshd.lab.command.shutdown import shut_down
from meshd.lab.envoys.bootstrap import NoEnvoyError, find_binary
from meshd.lab.manifests.files import ManifestError, load
from meshd.lab.mesh import MeshOptions
from meshd.lab.names import DEFAULT_LAB, MAX_NODES, MODES, Lab, log_file
from meshd.lab.system.cgroup import NoCgroup2Error

_WAIT_SECONDS = 60.0
_WITH_ENVOY = ("sidecar", "node-proxy", "node-proxy-sockmap")
_ONLY_IN = {"workers": ("meshd", *_WITH_ENVOY), "access_log": ("meshd",), "fast_path": ("meshd",)}
"""In which modes an option of the mesh's means something."""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("lab", help="run a small cluster on this machine", description=__doc__)
    parser.add_argument(
        "--name",
        type=_lab,
        default=None,
        help=f"which lab; several may run at once (default: $MESHD_LAB, else {DEFAULT_LAB})",
    )
    parser.set_defaults(run=run)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    up = verbs.add_parser("up", help="start the lab; returns when its pods are ready")
    _files(up, required=False)
    up.add_argument("--nodes", type=_nodes, default=1, metavar="N", help=f"1 to {MAX_NODES} (default: 1)")
    up.add_argument(
        "--mode", choices=MODES, default="meshd", help="who carries service traffic (default: meshd)"
    )
    up.add_argument(
        "--workers",
        type=_workers,
        metavar="N",
        help="proxy workers a node, or worker threads of each Envoy (default: 1)",
    )
    up.add_argument(
        "--access-log", metavar="PATH", help="mode meshd: the agents' access log; %%n is the node's name"
    )
    up.add_argument(
        "--fast-path",
        choices=("on", "off", "auto"),
        help="mode meshd: may the kernel carry requests? (default: auto, as the agents' self-test says)",
    )
    levels = ("debug", "info", "warning", "error")
    up.add_argument("--log-level", choices=levels, default="info", help="of the lab itself (default: info)")
    _wait(up, _WAIT_SECONDS)
    up.set_defaults(act=_up, parser=up)

    apply = verbs.add_parser("apply", help="create or change objects")
    _files(apply, required=True)
    _wait(apply, 0.0)
    apply.set_defaults(act=_apply)

    delete = verbs.add_parser("delete", help="remove objects")
    _files(delete, required=True)
    delete.set_defaults(act=_delete)

    execute = verbs.add_parser("exec", help="run a command in a pod")
    _namespace(execute)
    execute.add_argument(
        "-c", "--container", default="", help="whose environment to use (default: the first)"
    )
    execute.add_argument("pod", metavar="POD", help="a pod's name, or deploy/NAME")
    execute.add_argument("command", nargs="+", metavar="CMD", help="after --")
    execute.set_defaults(act=_exec)

    status = verbs.add_parser("status", help="nodes, pods and services")
    status.add_argument("-o", "--output", choices=("text", "json"), default="text")
    status.set_defaults(act=_status)

    logs = verbs.add_parser("logs", help="a pod's output")
    _namespace(logs)
    logs.add_argument("-f", "--follow", action="store_true", help="go on as the pod writes")
    logs.add_argument("-c", "--container", default="", help="which container (default: the first)")
    logs.add_argument("pod", metavar="POD", help="a pod's name, or deploy/NAME")
    logs.set_defaults(act=_logs)

    down = verbs.add_parser("down", help="end the lab and remove every trace")
    down.set_defaults(act=_down)


def run(args: argparse.Namespace) -> int:
    """Run one verb. Raises CommandError."""
    lab = args.name or _lab_of_environment()
    try:
        if os.geteuid() != 0:
            raise CommandError("needs root: it makes network namespaces and cgroups")
        return int(args.act(lab, args))
    except CommandNotRunError as error:
        raise SystemExit(_told(f"meshd lab: {error}", error.exit_code)) from None
    except (LabError, ManifestError, NoCgroup2Error, NoEnvoyError) as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"lab {lab.name}: {error}") from error


def _up(lab: Lab, args: argparse.Namespace) -> int:
    if args.mode in _WITH_ENVOY:
        find_binary()
    manifests = load(args.file)
    began = time.monotonic()
    options = _options(args)
    launch(lab, args.nodes, args.mode, options, args.log_level)
    try:
        ask(lab, Apply(manifests), Done)
    except LabError:
        shut_down(lab)
        raise
    if not _ready(lab, args.wait):
        return 1
    status = ask(lab, GetStatus(), Status)
    print(
        f"lab {lab.name}: {len(status.nodes)} nodes, {len(status.pods)} pods ready "
        f"in {time.monotonic() - began:.1f} s (mode {args.mode})"
    )
    return 0


def _options(args: argparse.Namespace) -> MeshOptions:
    """The mesh's options that were given. Exits with 2 for one that the mode has no use for."""
    given = {name: value for name in _ONLY_IN if (value := getattr(args, name)) is not None}
    for name in given:
        if args.mode not in _ONLY_IN[name]:
            option = name.replace("_", "-")
            modes = " and ".join(_ONLY_IN[name])
            args.parser.error(f"--{option} is for --mode {modes}: mode {args.mode} has no use for it")
    return MeshOptions(**given)


def _apply(lab: Lab, args: argparse.Namespace) -> int:
    manifests = load(args.file)
    _print_results(ask(lab, Apply(manifests), Done))
    return 0 if not args.wait or _ready(lab, args.wait) else 1


def _delete(lab: Lab, args: argparse.Namespace) -> int:
    _print_results(ask(lab, Delete(load(args.file)), Done))
    return 0


def _ready(lab: Lab, seconds: float) -> bool:
    waiting = wait_until_ready(lab, seconds)
    for line in waiting:
        _told(f"not ready after {seconds:g} s: {line}", 1)
    return not waiting


def _print_results(done: Done) -> None:
    for what, outcome in done.results:
        print(f"{what} {outcome}")


def _exec(lab: Lab, args: argparse.Namespace) -> int:
    pod = find_pod(ask(lab, GetStatus(), Status), args.namespace, args.pod)
    become(lab, pod, args.container, args.command)


def _status(lab: Lab, args: argparse.Namespace) -> int:
    status = ask(lab, GetStatus(), Status)
    if args.output == "text":
        print(status_text(lab.name, status))
        return 0
    shown = {
        "nodes": status.nodes,
        "pods": [
            {"name": p.name, "namespace": p.namespace, "node": p.node, "ip": p.ip, "ready": p.ready}
            for p in status.pods
        ],
        "services": status.services,
    }
    print(msgspec.json.format(msgspec.json.encode(shown), indent=2).decode())
    return 0


def _logs(lab: Lab, args: argparse.Namespace) -> int:
    pod = find_pod(ask(lab, GetStatus(), Status), args.namespace, args.pod)
    container = args.container or pod.containers[0]
    if container not in pod.containers:
        raise CommandError(f"pod {pod.name} has no container {container}; it has {', '.join(pod.containers)}")
    followed(lab.pod_dir(pod.namespace, pod.name) / log_file(container), args.follow)
    return 0


def _down(lab: Lab, _args: argparse.Namespace) -> int:
    removed = shut_down(lab)
    print(f"lab {lab.name} is down" if removed else f"lab {lab.name}: there is nothing to remove")
    return 0


def _told(message: str, code: int) -> int:
    print(message, file=sys.stderr)
    return code


def _files(parser: argparse.ArgumentParser, required: bool) -> None:
    parser.add_argument(
        "-f",
        "--file",
        action="append",
        default=[],
        required=required,
        metavar="PATH",
        help="a manifest or a folder of them, - for standard input; may be given several times",
    )


def _wait(parser: argparse.ArgumentParser, default: float) -> None:
    parser.add_argument(
        "--wait",
        type=_seconds,
        default=default,
        metavar="SECONDS",
        help=f"how long to wait for the pods to be ready (default: {default:g})",
    )


def _namespace(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-n", "--namespace", default="default", help="the pod's (default: default)")


def _lab(text: str) -> Lab:
    try:
        return Lab(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _lab_of_environment() -> Lab:
    try:
        return Lab(os.environ.get("MESHD_LAB") or DEFAULT_LAB)
    except ValueError as error:
        raise CommandError(f"$MESHD_LAB: {error}") from error


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to 3600")
    return seconds


def _nodes(text: str) -> int:
    return _number(text, MAX_NODES)


def _workers(text: str) -> int:
    return _number(text, 16)


def _number(text: str, most: int) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {most}")
    return int(text)
