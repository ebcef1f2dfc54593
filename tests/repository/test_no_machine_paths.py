"""No script names a folder of the machine that it was written on."""

import re

import pytest

from lumina_next.tools.environment import ROOT

SCRIPTS = [ROOT / "Makefile", ROOT / ".ci" / "run", *sorted((ROOT / ".github").rglob("*.yml"))]
FOLDERS = ("benchmarks", "demo", "host", "lumina", "nodes", "tools")
SCRIPTS += sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_name_no_folder_of_one_machine(script):
    found = re.search(r"(?<![\w.}])/(home|root|work|tmp|Users|opt|mnt)/\S*", script.read_text())
    assert not found, found.group()
