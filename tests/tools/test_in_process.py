"""ComfyUI imported into a process: by a command line of its own, and never this pack's nodes/."""

import json
import os
import subprocess
import sys

import pytest

from lumina_next.tools.environment import ROOT

IMPORTS = "import json, sys\nfrom tools.in_process import PACK, import_comfyui, import_pack"


@pytest.fixture
def comfyui(tmp_path):
    """A folder with what is imported of ComfyUI, which only keeps its command line."""
    for folder in ("comfy", "utils"):
        (tmp_path / folder).mkdir()
    (tmp_path / "comfy" / "options.py").write_text("def enable_args_parsing(): pass")
    (tmp_path / "comfy" / "cli_args.py").write_text("import sys; ARGUMENTS = sys.argv[1:]")
    (tmp_path / "utils" / "install_util.py").touch()
    (tmp_path / "nodes.py").touch()
    return tmp_path


def said(comfyui, program):
    """What a program, run from the repository's folder with an argument of its own, prints."""
    done = subprocess.run(
        [sys.executable, "-c", f"{IMPORTS}\n{program}", "own"],
        cwd=ROOT,
        env=os.environ | {"COMFYUI_DIR": str(comfyui), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("given, read", [((), ["--cpu"]), (("--port", "1"), ["--port", "1"])])
def test_comfyui_reads_what_it_is_given_and_the_program_keeps_its_own(comfyui, given, read):
    program = f"import_comfyui(*{given})\nimport comfy.cli_args\n"
    program += "print(json.dumps([comfy.cli_args.ARGUMENTS, sys.argv[1:]]))"
    assert said(comfyui, program) == [read, ["own"]]


def test_only_the_first_call_has_an_effect(comfyui):
    program = "import_comfyui('--first')\nbefore = list(sys.path)\nimport_comfyui('--second')\n"
    program += "import comfy.cli_args\n"
    program += "print(json.dumps([comfy.cli_args.ARGUMENTS, sys.path == before]))"
    assert said(comfyui, program) == [["--first"], True]


def test_nodes_are_comfyuis_with_the_pack_beside_them(comfyui):
    program = "import_comfyui()\nimport nodes\npack = import_pack()\n"
    program += "print(json.dumps([nodes.__file__, pack.__name__, sys.modules[PACK] is pack]))"
    assert said(comfyui, program) == [str(comfyui / "nodes.py"), "lumina_next", True]
