"""The loader: ``python -m meshd.datapath.loading.load``. Loads, pins, writes the layout, and ends.

It compiles what nobody on this machine has compiled before (kept_unit.py).

A map that an earlier version left pinned with the same layout is used again, so that what it holds
(members, services, open flows, what sockets asked for) stays true under the new programs.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from meshd.datapath.errors import DatapathError
from meshd.datapath.kernel import bpf
from meshd.datapath.loading import source
from meshd.datapath.loading.kept_unit import KeptUnit, alone, keep, kept_unit
from meshd.datapath.loading.layout_file import write_layout
from meshd.datapath.loading.map_names import MAPS
from meshd.datapath.loading.pins import Pins
from meshd.datapath.loading.programs import PROGRAMS
from meshd.paths import CACHE_DIR

if TYPE_CHECKING:
    from meshd.datapath.loading.compile import Compiled, Unit


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0, or 1 with the reason as standard error's last line."""
    parser = argparse.ArgumentParser(prog="python -m meshd.datapath.loading.load", description=__doc__)
    parser.add_argument("--instance", required=True)
    parsed = parser.parse_args(arguments)
    try:
        load(parsed.instance)
    except (DatapathError, source.SourceMissingError) as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"loading the BPF programs: {error}", file=sys.stderr)
        return 1
    return 0


def load(instance: str) -> None:
    """Leave all programs and maps pinned, and the layout written. Raises DatapathError, OSError."""
    pins = Pins(instance)
    compiled = _unit()
    for name in MAPS:
        path = pins.map(compiled.layout, name)
        try:
            earlier = bpf.open_pinned(str(path))
        except FileNotFoundError:
            bpf.pin(compiled.map_fd(name), str(path))
        else:
            compiled.use_map(name, earlier)
            os.close(earlier)
    folder = pins.programs / compiled.digest
    folder.mkdir(mode=0o700, exist_ok=True)
    for program in PROGRAMS:
        fd = compiled.load(program)
        path = folder / program.name
        path.unlink(missing_ok=True)
        bpf.pin(fd, str(path))
    write_layout(instance, compiled.layout)


def _unit() -> Compiled | KeptUnit:
    raise_memlock()
    text = source.unit()
    digest = source.digest(text)
    with alone(CACHE_DIR):
        kept = kept_unit(CACHE_DIR, digest)
        if kept is not None:
            return kept
        compiled = _compiled(text, digest)
        keep(CACHE_DIR, compiled.to_keep())
        return compiled


def compile_unit() -> Compiled:
    """Import bcc, which takes its time and memory, and compile. Raises DatapathError, SourceMissingError."""
    text = source.unit()
    return _compiled(text, source.digest(text))


def _compiled(text: str, digest: str) -> Compiled:
    with _bcc_needed():
        from meshd.datapath.loading.compile import Compiled
    return Compiled(text, digest)


def compile_other(name: str, **constants: int) -> Unit:
    """The same of another unit of bpf/, with constants defined. Raises DatapathError, SourceMissingError."""
    with _bcc_needed():
        from meshd.datapath.loading.compile import Unit
    defined = "".join(f"#define {constant} {value}\n" for constant, value in constants.items())
    return Unit(defined + source.unit(name=name))


@contextlib.contextmanager
def _bcc_needed() -> Iterator[None]:
    """For importing what imports bcc. Raises DatapathError."""
    raise_memlock()
    try:
        yield
    except ImportError as error:
        raise DatapathError(
            f"bcc cannot be imported ({error}): install python3-bpfcc, "
            "and run with the distribution's python3 or a venv made with --system-site-packages"
        ) from error


def raise_memlock() -> None:
    """Kernels before 5.11 charge maps against RLIMIT_MEMLOCK; later ones do not, so failure is harmless."""
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except (OSError, ValueError):
        _, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (hard, hard))


if __name__ == "__main__":
    sys.exit(main())
