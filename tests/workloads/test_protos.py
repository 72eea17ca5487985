"""What protoc makes of the .proto files is what is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("path", ["meshd/workloads/cri", "tests/support/kubelet"])
def test_generated_code_is_up_to_date(tmp_path: Path, path: str) -> None:
    protoc = (sys.executable, "-m", "grpc_tools.protoc", "-I", str(ROOT))
    subprocess.run(
        (*protoc, f"--python_out={tmp_path}", f"--pyi_out={tmp_path}", f"{path}.proto"), check=True
    )
    for end in ("_pb2.py", "_pb2.pyi"):
        assert (tmp_path / f"{path}{end}").read_text() == (ROOT / f"{path}{end}").read_text(), (
            "run `make protos`"
        )
