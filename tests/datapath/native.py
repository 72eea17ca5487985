"""C of bpf/ that depends on nothing of the kernel, built for this machine: what the programs run, called."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

from meshd.datapath.loading import source

_PRELUDE = "#include <linux/types.h>\n#define asm __asm__\n"


def build(text: str, folder: Path) -> ctypes.CDLL:
    """Compile a C text that includes headers of bpf/, with all warnings as errors, and load it."""
    unit, library = folder / "unit.c", folder / "unit.so"
    unit.write_text(_PRELUDE + text)
    subprocess.run(
        (
            *("cc", "-shared", "-fPIC", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function"),
            *("-Wno-sign-compare", "-fsanitize=undefined", "-fno-sanitize-recover"),
            *("-I", str(source.FOLDER), "-I", str(source.SHIM / "include")),
            *("-o", str(library), str(unit)),
        ),
        check=True,
    )
    return ctypes.CDLL(str(library))
