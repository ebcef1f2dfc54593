"""Loads the pack as ComfyUI does, by path, and makes the report."""

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def import_pack() -> None:
    """The pack as `lumina_next`, which the modules of the report and of the tests import."""
    # `import nodes` must mean ComfyUI's nodes.py, never this pack's nodes/ folder.
    sys.path[:] = [path for path in sys.path if Path(path).resolve() != ROOT]
    spec = importlib.util.spec_from_file_location(
        "lumina_next", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    sys.modules["lumina_next"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["lumina_next"])


if __name__ == "__main__":
    import_pack()
    from lumina_next.benchmarks.faults.report import main

    main()
