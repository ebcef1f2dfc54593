"""Loads the pack as ComfyUI does, by path, and makes the report."""

import sys
from pathlib import Path

from tools.in_process import import_pack
from tools.shell import ROOT

if __name__ == "__main__":
    # `import nodes` must mean ComfyUI's nodes.py, never this pack's nodes/ folder.
    sys.path[:] = [path for path in sys.path if Path(path).resolve() != ROOT]
    import_pack()
    from lumina_next.benchmarks.faults.report import main

    main()
