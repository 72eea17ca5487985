"""The tokens file."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from meshd.control.identity import Identity
from meshd.control.tokens import TokensError, TokensFile

GOOD = '# nodes\nsecret,system:node:n1,1,"system:nodes, others"\n\n  other , admin,2\n'


def known(tokens: TokensFile, token: str) -> Identity | None:
    return asyncio.run(tokens.identify(token))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.csv"
    path.write_text(GOOD)
    return path


def test_who_shows_a_token(file: Path) -> None:
    tokens = TokensFile(file)
    assert known(tokens, "secret") == Identity("system:node:n1", ("system:nodes", "others"))
    assert known(tokens, "other") == Identity("admin")
    assert known(tokens, "secre") is None
    assert known(tokens, "") is None


def test_file_is_read_again_and_a_bad_one_leaves_the_last_good(file: Path) -> None:
    tokens = TokensFile(file)
    file.write_text("bad\n")
    assert known(tokens, "secret") is not None
    file.write_text("new,admin,1\n")
    assert known(tokens, "secret") is None
    assert known(tokens, "new") == Identity("admin")
    file.unlink()
    assert known(tokens, "new") == Identity("admin")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n", "line 1: not TOKEN,USER,UID"),
        ("a,b,1\n,b,2\n", "line 2: not TOKEN,USER,UID"),
        ("a,,1\n", "line 1: not TOKEN,USER,UID"),
        ("a,b,1,g,h\n", "line 1: not TOKEN,USER,UID"),
        ("a,b,1\na,c,2\n", "line 2: the token is another user's already"),
        ('a,b,"1\n', "unexpected end of data"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(file: Path, text: str, message: str) -> None:
    file.write_text(text)
    with pytest.raises(TokensError, match=message):
        TokensFile(file)
