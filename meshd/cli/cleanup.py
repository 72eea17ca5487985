"""``meshd cleanup``: removes from this node all that meshd put there, whatever became of its processes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import NamedTuple

from meshd import cgroup_home
from meshd.cli import leftovers
from meshd.cli.errors import CommandError

ALL = "all"


class LeftAlone(NamedTuple):
    """What was not removed because it runs."""

    what: str
    why: str


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "cleanup",
        help="remove every program, pin, worker and directory of meshd from this node",
        description=__doc__,
        epilog="Exit code 0: all is gone, also when there was nothing; 1: what runs was left alone.",
    )
    parser.add_argument(
        "--instance", default=ALL, help="of one agent, or 'all' for all, labs included (default: %(default)s)"
    )
    parser.add_argument(
        "--force", action="store_true", help="end agents and labs that run; without it they are left alone"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Remove, and print what was removed. Raises CommandError."""
    removed = left = 0
    try:
        for done in _cleanup(args.instance, args.force):
            if isinstance(done, LeftAlone):
                print(f"left alone: {done.what}: {done.why}", file=sys.stderr)
                left += 1
            else:
                print(done)
                removed += 1
    except OSError as error:
        raise CommandError(f"{error}; run as root") from error
    if not removed and not left:
        print("nothing to remove")
    return 1 if left else 0


def _cleanup(wanted: str, force: bool) -> Iterator[str | LeftAlone]:
    from meshd.cli import dead_labs

    labs = dead_labs.labs()
    running = [lab for lab in labs if not force and dead_labs.runs(lab)]
    if wanted == ALL:
        for lab in labs:
            if lab in running:
                end = f"it runs; end it with `meshd lab --name {lab.name} down`, or use --force"
                yield LeftAlone(f"lab {lab.name}", end)
            else:
                yield from dead_labs.remove(lab)
    for instance in _instances(wanted):
        if any(lab.owns_instance(instance) for lab in running):
            if wanted != ALL:
                yield LeftAlone(f"instance {instance}", "its lab runs; end that, or use --force")
            continue
        yield from _instance(instance, force)
    if wanted == ALL and not running:
        yield from leftovers.remove_cache()


def _instances(wanted: str) -> list[str]:
    from meshd.datapath import cleanup

    if wanted != ALL:
        return [wanted]
    processes = {process.instance for process in leftovers.processes()}
    return sorted({*cleanup.instances(), *leftovers.instances(), *processes})


def _instance(instance: str, force: bool) -> Iterator[str | LeftAlone]:
    agents = [
        process
        for process in leftovers.processes()
        if (process.role, process.instance) == ("agent", instance)
    ]
    if agents and not force:
        why = f"its agent runs (pid {agents[0].pid}); stop it, or use --force"
        yield LeftAlone(f"instance {instance}", why)
        return
    # The agent first: it would put back what we remove.
    yield from leftovers.end(agents)
    yield from remove_instance(instance)


def remove_instance(instance: str) -> Iterator[str]:
    """Remove what an agent that has ended has left. Says what. Raises OSError."""
    from meshd.datapath import cleanup

    workers = leftovers.workers(instance)
    # Capture goes before the workers do, so that no connection is sent to one that is no more.
    yield from cleanup.remove(instance)
    yield from leftovers.end(workers)
    yield from cgroup_home.remove(instance)
    yield from leftovers.remove_run_dir(instance)
