"""Asking the agents on this machine, over their admin sockets."""

from __future__ import annotations

import argparse
import http.client
import socket
from pathlib import Path

import msgspec

from meshd.cli.errors import CommandError
from meshd.paths import RUN_ROOT, run_dir

_TIMEOUT_SECONDS = 10.0


def add_options(parser: argparse.ArgumentParser) -> None:
    """Whom to ask, and how to show the answer."""
    parser.add_argument(
        "--instance", help="the agent to ask (default: every agent that runs on this machine)"
    )
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")


def agent_sockets(instance: str | None) -> list[Path]:
    """The admin sockets of one agent, or of all that answer. Raises CommandError where there is none."""
    if instance is not None:
        path = run_dir(instance) / "agent.sock"
        if not path.exists():
            raise CommandError(f"no agent of instance {instance!r} runs here: there is no {path}")
        return [path]
    paths = sorted(RUN_ROOT.glob("*/agent.sock"))
    answering = [path for path in paths if _answers(path)]
    if not answering:
        raise CommandError(
            f"no agent runs on this machine: nothing answers in {RUN_ROOT} (start one: meshd agent, or a lab)"
        )
    return answering


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(_TIMEOUT_SECONDS)
        try:
            sock.connect(str(path))
        except OSError:
            return False
    return True


def get(path: Path, document: str) -> bytes:
    """A document, as JSON, of the agent with that admin socket. Raises CommandError."""
    connection = http.client.HTTPConnection("localhost", timeout=_TIMEOUT_SECONDS)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(_TIMEOUT_SECONDS)
            sock.connect(str(path))
            connection.sock = sock
            connection.request("GET", f"/v1/{document}")
            response = connection.getresponse()
            body = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise CommandError(f"the agent at {path} does not answer: {error}") from error
    if response.status != 200:
        raise CommandError(
            f"the agent at {path} answered {response.status}: {body.decode(errors='replace').strip()}"
        )
    return body


def print_json(document: object) -> None:
    """Print for programs, and so that a person can read it too."""
    print(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())
