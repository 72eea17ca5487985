from __future__ import annotations

import pytest

from meshd.cli.main import main


def test_a_failure_names_the_command_and_not_what_it_was_to_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab", "--name", "nosuchlab", "exec", "pod", "--", "true"]) == 1
    assert capsys.readouterr().err.startswith("meshd lab: ")


def test_wrong_usage_is_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["nonsense"], ["lab"], ["agent", "--node", "n", "--workers", "0"]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
    assert "'0' is not a number from 1 to 99" in capsys.readouterr().err
