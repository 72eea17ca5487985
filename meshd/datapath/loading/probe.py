"""Tries the node: ``python -m meshd.datapath.loading.probe``. Nothing is pinned and nothing stays.

Loads every program, attaches each to a cgroup made for the moment, and prints a ``Probe`` as JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from meshd.datapath.errors import DatapathError
from meshd.datapath.kernel import bpf
from meshd.datapath.loading import source
from meshd.datapath.loading.load import compile_unit
from meshd.datapath.loading.programs import CGROUP_PROGRAMS, SOCKET_PROGRAMS, TRACEPOINT_PROGRAMS, Program


class Probe(msgspec.Struct, kw_only=True):
    """What was found. Reasons are empty where all is well."""

    bcc: str = ""
    """Its version; empty when it cannot be imported."""
    compile: str = ""
    programs: dict[str, str] = {}
    """Program name -> why the kernel refuses to load or attach it."""


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 also when something was refused: the answer says so."""
    parser = argparse.ArgumentParser(prog="python -m meshd.datapath.loading.probe", description=__doc__)
    parser.add_argument("--cgroup", type=Path, required=True)
    parsed = parser.parse_args(arguments)
    print(msgspec.json.encode(probe(parsed.cgroup)).decode())
    return 0


def probe(cgroup: Path) -> Probe:
    """Try everything below a cgroup v2 folder."""
    found = Probe()
    try:
        compiled = compile_unit()
    except (DatapathError, source.SourceMissingError, OSError) as error:
        found.compile = str(error)
        return found
    from meshd.datapath.loading.compile import bcc_version

    found.bcc = bcc_version()
    with _folder_below(cgroup) as folder:
        for program in CGROUP_PROGRAMS:
            with _tried(found, program):
                fd = compiled.load(program)
                if folder is not None:
                    os.close(bpf.attach_cgroup(fd, folder, program.attach_type))
    for program, name in SOCKET_PROGRAMS:
        with _tried(found, program):
            bpf.attach_to_map(compiled.load(program), compiled.map_fd(name), program.attach_type)
    for program, name in TRACEPOINT_PROGRAMS:
        with _tried(found, program):
            os.close(bpf.attach_raw_tracepoint(compiled.load(program), name))
    return found


@contextlib.contextmanager
def _tried(found: Probe, program: Program) -> Iterator[None]:
    try:
        yield
        found.programs[program.name] = ""
    except (DatapathError, OSError) as error:
        found.programs[program.name] = str(error)


@contextlib.contextmanager
def _folder_below(cgroup: Path) -> Iterator[int | None]:
    folder = cgroup / f"meshd-check-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError:
        yield None  # the check of the cgroup itself says why
        return
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)
        folder.rmdir()


if __name__ == "__main__":
    sys.exit(main())
