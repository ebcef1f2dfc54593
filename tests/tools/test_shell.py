"""Commands that fail are named, with paths as they are written in the repository's folder."""

import sys

import pytest

from lumina_next.tools import shell


@pytest.mark.parametrize(
    "program, error, said",
    [
        ("raise SystemExit(3)", SystemExit, "failed with status 3: .*raise SystemExit"),
        ("import os; os.kill(os.getpid(), 9)", RuntimeError, "ended by signal 9: .*os.kill"),
    ],
)
def test_command_that_does_not_succeed_is_named(program, error, said):
    with pytest.raises(error, match=said):
        shell.run(sys.executable, "-c", program)


def test_command_runs_in_the_folder_it_is_given(tmp_path):
    shell.run(sys.executable, "-c", "open('made', 'w')", cwd=tmp_path)
    assert (tmp_path / "made").exists()


def test_paths_in_the_repository_are_relative_to_it(tmp_path):
    assert shell.shown(shell.ROOT / "tools" / "shell.py") == "tools/shell.py"
    assert shell.shown(tmp_path) == str(tmp_path)
    assert shell.shown(f"{shell.ROOT}-other") == f"{shell.ROOT}-other"
