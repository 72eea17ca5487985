"""Puts the loaded programs in force at a cgroup, and takes what an earlier version left out of force."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from meshd.datapath.errors import DatapathError
from meshd.datapath.kernel import bpf
from meshd.datapath.loading.layout import Layout
from meshd.datapath.loading.pins import Pins
from meshd.datapath.loading.programs import CGROUP_PROGRAMS, SOCKET_PROGRAMS, TRACEPOINT_PROGRAMS, Program


def attach(pins: Pins, layout: Layout, cgroup: Path, cgroup_number: int) -> None:
    """Attach every program; one that replaces an earlier version does so in one step. Raises DatapathError.

    Programs of others at the same cgroup stay and run too.
    """
    try:
        folder = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise DatapathError(f"cgroup {cgroup}: {error.strerror}; give one with --cgroup") from error
    try:
        for program in CGROUP_PROGRAMS:
            _attach_cgroup(pins, layout, program, folder, cgroup_number)
        for program, name in SOCKET_PROGRAMS:
            _attach_to_map(pins, layout, program, name)
        for program, name in TRACEPOINT_PROGRAMS:
            _attach_to_tracepoint(pins, layout, program, name)
    finally:
        os.close(folder)


def in_force(pins: Pins, layout: Layout, cgroup_number: int) -> bool:
    """Whether exactly these programs are attached at that cgroup. Raises OSError."""
    try:
        for program in CGROUP_PROGRAMS:
            if _link(pins, program) != (cgroup_number, _program_id(pins, layout, program)):
                return False
        for program, _ in TRACEPOINT_PROGRAMS:
            if _traced(pins, program) != _program_id(pins, layout, program):
                return False
        return all(_map_has(pins, layout, program, name) for program, name in SOCKET_PROGRAMS)
    except FileNotFoundError:
        return False


def program_ids(pins: Pins) -> frozenset[int]:
    """The ids of the programs that an instance has attached. Raises OSError."""
    found = set()
    for program in CGROUP_PROGRAMS:
        with contextlib.suppress(FileNotFoundError):
            found.add(_link(pins, program)[1])
    return frozenset(found)


def map_ids(root: Path) -> frozenset[int]:
    """The ids of the maps of all instances. Raises OSError."""
    found = set()
    for pin in root.glob("*/maps/*"):
        fd = bpf.open_pinned(str(pin))
        try:
            found.add(bpf.map_info(fd).id)
        finally:
            os.close(fd)
    return frozenset(found)


def remove_obsolete(pins: Pins, layout: Layout) -> None:
    """Unpin programs and maps of other versions; the kernel frees them when nothing uses them."""
    for folder in pins.programs.iterdir():
        if folder.name != layout.digest:
            for pin in folder.iterdir():
                pin.unlink()
            folder.rmdir()
    current = {pins.map(layout, name) for name in layout.maps}
    for pin in pins.maps.iterdir():
        if pin not in current:
            pin.unlink()


def _attach_cgroup(pins: Pins, layout: Layout, program: Program, folder: int, cgroup_number: int) -> None:
    fd = bpf.open_pinned(str(pins.program(layout.digest, program.name)))
    pin = pins.link(program.name)
    try:
        try:
            attached_at, number = _link(pins, program)
        except FileNotFoundError:
            attached_at = number = 0
        if attached_at == cgroup_number and number == bpf.program_info(fd).id:
            return
        if attached_at == cgroup_number:
            link = bpf.open_pinned(str(pin))
            try:
                bpf.replace_in_link(link, fd)
            finally:
                os.close(link)
            return
        link = bpf.attach_cgroup(fd, folder, program.attach_type)
        try:
            pin.unlink(missing_ok=True)  # a link to another cgroup, or to one that is gone
            bpf.pin(link, str(pin))
        finally:
            os.close(link)
    except OSError as error:
        raise DatapathError(_explain(program, error)) from error
    finally:
        os.close(fd)


def _attach_to_map(pins: Pins, layout: Layout, program: Program, name: str) -> None:
    if _map_has(pins, layout, program, name):
        return
    fd = bpf.open_pinned(str(pins.program(layout.digest, program.name)))
    map_fd = bpf.open_pinned(str(pins.map(layout, name)))
    try:
        bpf.attach_to_map(fd, map_fd, program.attach_type)
    except OSError as error:
        raise DatapathError(_explain(program, error)) from error
    finally:
        os.close(map_fd)
        os.close(fd)


def _attach_to_tracepoint(pins: Pins, layout: Layout, program: Program, name: str) -> None:
    """Such a link's program cannot be replaced: for a moment an earlier version's runs too."""
    fd = bpf.open_pinned(str(pins.program(layout.digest, program.name)))
    pin = pins.link(program.name)
    try:
        if pin.exists() and _traced(pins, program) == bpf.program_info(fd).id:
            return
        link = bpf.attach_raw_tracepoint(fd, name)
        try:
            pin.unlink(missing_ok=True)
            bpf.pin(link, str(pin))
        finally:
            os.close(link)
    except OSError as error:
        raise DatapathError(_explain(program, error)) from error
    finally:
        os.close(fd)


def _traced(pins: Pins, program: Program) -> int:
    """The id of the program of a pinned link to a tracepoint. Raises FileNotFoundError."""
    fd = bpf.open_pinned(str(pins.link(program.name)))
    try:
        return bpf.linked_program(fd)
    finally:
        os.close(fd)


def _map_has(pins: Pins, layout: Layout, program: Program, name: str) -> bool:
    map_fd = bpf.open_pinned(str(pins.map(layout, name)))
    try:
        attached = bpf.attached(map_fd, program.attach_type)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return False  # a kernel before 6.0 cannot be asked: attach (again)
    finally:
        os.close(map_fd)
    return attached == (_program_id(pins, layout, program),)


def _link(pins: Pins, program: Program) -> tuple[int, int]:
    """(cgroup id, program id) of the pinned link. Raises FileNotFoundError."""
    fd = bpf.open_pinned(str(pins.link(program.name)))
    try:
        info = bpf.cgroup_link_info(fd)
    finally:
        os.close(fd)
    return info.cgroup, info.program


def _program_id(pins: Pins, layout: Layout, program: Program) -> int:
    fd = bpf.open_pinned(str(pins.program(layout.digest, program.name)))
    try:
        return bpf.program_info(fd).id
    finally:
        os.close(fd)


def _explain(program: Program, error: OSError) -> str:
    text = f"program {program.name} cannot be attached: {error}"
    if error.errno in (errno.EPERM, errno.EACCES):
        return f"{text}; it takes CAP_BPF and CAP_NET_ADMIN, and no program attached above may forbid others"
    return text
