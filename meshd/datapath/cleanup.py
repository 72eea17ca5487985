"""Takes an instance's programs out of force and removes all that it has in the kernel."""

from __future__ import annotations

import contextlib
import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from meshd.datapath.kernel import bpf
from meshd.datapath.kernel.bpf_map import Map
from meshd.datapath.loading import pins
from meshd.datapath.loading.programs import CGROUP_PROGRAMS, SOCKET_PROGRAMS
from meshd.paths import PIN_ROOT

_FIRST = struct.pack("=I", 0)


def instances(root: Path = PIN_ROOT) -> list[str]:
    """The instances that have pins."""
    return sorted(folder.name for folder in root.iterdir()) if root.is_dir() else []


def remove(instance: str, root: Path = PIN_ROOT) -> Iterator[str]:
    """Remove everything, saying what. Needs no agent, no layout file and no compiler. Raises OSError.

    The order is that of safety: first nothing new is captured, and what shows and forgets the captured
    connections goes last.
    """
    own = pins.Pins(instance, root)
    if not own.folder.is_dir():
        return
    order = [program.name for program in reversed(CGROUP_PROGRAMS)]
    found = {pin.name: pin for pin in _entries(own.links)}
    for name in sorted(found, key=lambda name: order.index(name) if name in order else len(order)):
        # The last reference to the link: without it the program is detached.
        found[name].unlink()
        yield f"program {name} detached ({found[name]})"
    for pin in _entries(own.maps):
        if pin.name.startswith("settings-"):
            # Sockets keep the programs that they were enrolled with, until they close.
            with contextlib.closing(Map.pinned(pin)) as settings:
                settings[_FIRST] = bytes(settings.value_size)
    for program, name in SOCKET_PROGRAMS:
        for pin in _entries(own.maps):
            if pin.name.startswith(name + "-") and _detach(pin, program.attach_type):
                yield f"program {program.name} detached ({pin})"
    for folder in (*_entries(own.programs), own.maps):
        pinned = _entries(folder)
        for pin in pinned:
            pin.unlink()
        if folder.is_dir():
            folder.rmdir()
        if pinned:
            yield f"{len(pinned)} pins removed ({folder})"
    for folder in (own.links, own.programs, own.folder):
        if folder.is_dir():
            folder.rmdir()
    yield f"pin folder removed ({own.folder})"
    with contextlib.suppress(OSError):  # other instances are there
        root.rmdir()


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _detach(pin: Path, attach_type: bpf.AttachType) -> bool:
    map_fd = bpf.open_pinned(str(pin))
    try:
        detached = False
        for number in bpf.attached(map_fd, attach_type):
            fd = bpf.program_by_id(number)
            try:
                bpf.detach_from_map(fd, map_fd, attach_type)
                detached = True
            finally:
                os.close(fd)
        return detached
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return False  # a kernel before 6.0 cannot be asked; the map goes, and the program with it
    finally:
        os.close(map_fd)
