"""Container images of one layer, as `docker save` writes them."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path

_PAUSE = "#include <unistd.h>\nint main(void) { for (;;) pause(); }\n"


def write_image(path: Path, name: str, files: Iterable[tuple[str, Path]], entrypoint: list[str]) -> None:
    """``files``: names in the image, without a slash at the front, and where they are here."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for inside, source in files:
            tar.add(source, arcname=inside)
    digest = hashlib.sha256(layer.getvalue()).hexdigest()
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Entrypoint": entrypoint},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    ).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = [{"Config": config_name, "RepoTags": [name], "Layers": [f"{digest}/layer.tar"]}]
    with tarfile.open(path, "w") as tar:
        for inside, data in (
            (config_name, config),
            (f"{digest}/layer.tar", layer.getvalue()),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            info = tarfile.TarInfo(inside)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def pause_image(folder: Path, name: str) -> Path:
    """An image whose only program waits to be ended, as the one does that holds a pod's namespaces."""
    source, program, image = folder / "pause.c", folder / "pause", folder / "pause.tar"
    source.write_text(_PAUSE)
    subprocess.run(("gcc", "-static", "-O2", "-o", str(program), str(source)), check=True)
    write_image(image, name, [("pause", program)], ["/pause"])
    return image
