"""``meshd explain``: what becomes of a request, and which path it takes."""

from __future__ import annotations

import argparse
import urllib.parse
from collections.abc import Iterator

import msgspec

from meshd.cli.asking import add_options, agent_sockets, get, print_json
from meshd.cli.errors import CommandError
from meshd.model.view import ExplainedRequest, ExplanationView, StatusView


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    help_text = "the route that a request takes, where it goes, and whether the kernel carries it"
    parser = commands.add_parser("explain", help=help_text, description=help_text)
    parser.add_argument("service", metavar="SERVICE", help="[NAMESPACE/]NAME[:PORT]; the namespace: default")
    parser.add_argument("method", metavar="METHOD")
    parser.add_argument("target", metavar="PATH", help="with its query, if it has one")
    parser.add_argument(
        *("-H", "--header"),
        metavar="'NAME: VALUE'",
        action="append",
        default=[],
        help="a header field of the request; may be given several times",
    )
    parser.add_argument(
        "--from",
        dest="namespace",
        metavar="NAMESPACE",
        default="",
        help="the caller's namespace: it may have routes of its own",
    )
    add_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Ask the agents and print their answers."""
    question = urllib.parse.urlencode({"question": msgspec.json.encode(_request(args))})
    answers: dict[str, ExplanationView] = {}
    for socket in agent_sockets(args.instance):
        node = msgspec.json.decode(get(socket, "status"), type=StatusView).node
        answers[node] = msgspec.json.decode(get(socket, f"explain?{question}"), type=ExplanationView)
    if args.output == "json":
        print_json(
            {"nodes": [{"node": node, **msgspec.structs.asdict(found)} for node, found in answers.items()]}
        )
        return 0
    for node, found in answers.items():
        if len(answers) > 1:
            print(f"Node {node}")
        print("\n".join(explanation_text(found)))
    return 0


def _request(args: argparse.Namespace) -> ExplainedRequest:
    """Raises CommandError."""
    host, headers = "", []
    for field in args.header:
        name, colon, value = field.partition(":")
        if not colon or not name.strip():
            raise CommandError(f"header field {field!r} is not 'NAME: VALUE'")
        if name.strip().lower() == "host":
            host = value.strip()
        else:
            headers.append((name.strip().lower(), value.strip()))
    return ExplainedRequest(
        service=args.service,
        method=args.method,
        target=args.target,
        host=host,
        headers=tuple(headers),
        namespace=args.namespace,
    )


def explanation_text(found: ExplanationView) -> Iterator[str]:
    """The answer for a person, line by line."""
    callers = f" from {found.namespace}" if found.namespace else ""
    yield f"{found.method} {found.target} to {found.service} (Host {found.host}){callers}"
    if not found.route:
        yield f"  Route    none: {found.action}"
    else:
        yield f"  Route    {found.route}, number {found.rule} by order"
        yield f"  Match    {found.match}"
        if not found.clusters:
            yield f"  Action   {found.action}"
        yield from (f"  Policy   {name}" for name in found.policies)
        yield from (f"  Does     {effect}" for effect in found.effects)
    for text in found.filters:
        yield f"  Filter   {text}"
    total = sum(share.weight for share in found.clusters)
    for share in found.clusters:
        part = f"{100 * share.weight / total:.3g} %" if total else "0 %"
        yield f"  Cluster  {share.cluster}  {part}, healthy endpoints {share.healthy} of {share.endpoints}"
        yield from (f"    Policy {name}" for name in share.policies)
        yield from (f"    Does   {effect}" for effect in share.effects)
    if found.route:
        yield f"  Timeout  {f'{found.timeout:g} s' if found.timeout else 'none'}"
    yield f"  Path     {found.path}{f', because: {found.reason}' if found.reason else ''}"
