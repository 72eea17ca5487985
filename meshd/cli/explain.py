"""``meshd explain``: what becomes of a request or a TCP connection, and which path it takes."""

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
    help_text = (
        "the route that a request takes, or without METHOD and PATH a TCP connection, where it goes, and "
        "whether the kernel does it"
    )
    parser = commands.add_parser("explain", help=help_text, description=help_text)
    parser.add_argument("service", metavar="SERVICE", help="[NAMESPACE/]NAME[:PORT]; the namespace: default")
    parser.add_argument("method", metavar="METHOD", nargs="?", default="")
    parser.add_argument("target", metavar="PATH", nargs="?", default="", help="with its query, if it has one")
    parser.add_argument(
        "--sni",
        dest="server_name",
        metavar="NAME",
        default="",
        help="of a TCP connection: the name that a TLS client asks for",
    )
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
    if args.method and not args.target:
        raise CommandError("METHOD needs a PATH")
    if args.method and args.server_name:
        raise CommandError("--sni is for TCP connections: ask without METHOD and PATH")
    if args.header and not args.method:
        raise CommandError("header fields are for requests: ask with METHOD and PATH")
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
        server_name=args.server_name.lower(),
        namespace=args.namespace,
    )


def explanation_text(found: ExplanationView) -> Iterator[str]:
    """The answer for a person, line by line."""
    callers = f" from {found.namespace}" if found.namespace else ""
    if found.method:
        yield f"{found.method} {found.target} to {found.service} (Host {found.host}){callers}"
    else:
        asked = f"TLS connection for {found.host}" if found.host else "Connection"
        yield f"{asked} to {found.service}{callers}"
    if not found.route:
        yield f"  Route    none: {found.action}"
    else:
        yield f"  Route    {found.route}" + (
            f", number {found.rule} by order" if found.rule is not None else ""
        )
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
        timeout = "Timeout" if found.method else "Idle   "
        yield f"  {timeout}  {f'{found.timeout:g} s' if found.timeout else 'none'}"
    if found.http2:
        yield f"  HTTP/2   {found.http2}"
    yield f"  Path     {found.path}{f', because: {found.reason}' if found.reason else ''}"
