"""The end of a certificate, as OpenSSL says it, too."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.certificate_end import not_after
from tests.support.certificates import Authority


@pytest.mark.parametrize("days", [2, 3650, 36500])
def test_it_is_what_openssl_says(tmp_path: Path, days: int) -> None:
    """Both ways in which it is written: with two digits of the year until 2049, with four from 2050 on."""
    made = _made(tmp_path, days)
    command = ("openssl", "x509", "-in", str(made), "-noout", "-enddate")
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    said = done.stdout.strip().removeprefix("notAfter=")
    assert not_after(made.read_bytes()) == ssl.cert_time_to_seconds(said)


def test_of_a_chain_the_first_end_counts(tmp_path: Path) -> None:
    leaf = Authority(tmp_path).sign("leaf").certificate.read_bytes()
    assert not_after(_made(tmp_path, 99).read_bytes() + leaf) == not_after(leaf)


def _made(folder: Path, days: int) -> Path:
    made = folder / "made.pem"
    command = (
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
        "-days", str(days), "-subj", "/CN=x", "-keyout", str(folder / "made.key"), "-out", str(made),
    )  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return made


@given(st.binary(max_size=200))
def test_what_is_no_certificate_has_no_end(data: bytes) -> None:
    assert not_after(data) is None
    assert not_after(ssl.DER_cert_to_PEM_cert(data).encode()) is None
