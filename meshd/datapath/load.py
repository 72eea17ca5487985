"""The loader: ``python -m meshd.datapath.load``. Compiles, loads, pins, writes the layout, and ends.

A map that an earlier version left pinned with the same layout is used again, so that what it holds
(members, services, open flows, what sockets asked for) stays true under the new programs.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
from pathlib import Path

from meshd.datapath import bpf, source
from meshd.datapath.errors import DatapathError
from meshd.datapath.layout import Layout
from meshd.datapath.pins import Pins
from meshd.datapath.programs import MAPS, PROGRAMS


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0, or 1 with the reason as standard error's last line."""
    parser = argparse.ArgumentParser(prog="python -m meshd.datapath.load", description=__doc__)
    parser.add_argument("--instance", required=True)
    parser.add_argument("--layout", type=Path, required=True, help="the file to write")
    parsed = parser.parse_args(arguments)
    try:
        load(Pins(parsed.instance), parsed.layout)
    except (DatapathError, source.SourceMissingError) as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"loading the BPF programs: {error}", file=sys.stderr)
        return 1
    return 0


def load(pins: Pins, layout_path: Path) -> None:
    """Leave all programs and maps pinned, and the layout written. Raises DatapathError, OSError."""
    raise_memlock()
    try:
        from meshd.datapath.compile import Compiled
    except ImportError as error:
        raise DatapathError(
            f"bcc cannot be imported ({error}): install python3-bpfcc, "
            "and run with the distribution's python3 or a venv made with --system-site-packages"
        ) from error
    text = source.unit()
    compiled = Compiled(text, source.digest(text))
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
    _write(compiled.layout, layout_path)


def raise_memlock() -> None:
    """Kernels before 5.11 charge maps against RLIMIT_MEMLOCK; later ones do not, so failure is harmless."""
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except (OSError, ValueError):
        _, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (hard, hard))


def _write(layout: Layout, path: Path) -> None:
    beside = path.with_suffix(".new")
    beside.write_text(layout.to_json())
    beside.replace(path)


if __name__ == "__main__":
    sys.exit(main())
