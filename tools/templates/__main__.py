"""The command, see the package."""

from __future__ import annotations

import argparse
import io
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from PIL import Image

from lumina.checkpoints.convert.disk import atomic_write
from tools.comfyui import Host
from tools.environment import ROOT

from . import __doc__ as description
from . import blueprint, running, saving, thumbnails
from .collection import templates
from .declarations import Declaration, declaration
from .graph import Graph

FOLDER = ROOT / "workflows"
BLUEPRINT = ROOT / "subgraphs" / f"{blueprint.NAME}.json"


def main(arguments: Sequence[str] | None = None) -> None:
    """Exits with the files' names where --check finds some out of date."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.templates", description=(description or "").partition("\n")[0]
    )
    parser.add_argument("--check", action="store_true", help="write nothing and draw nothing")
    is_check = parser.parse_args(arguments).check
    with tempfile.TemporaryDirectory() as base, Host(Path(base)) as host:
        declarations, versions = asked(host)
        wanted = texts(declarations, versions)
        if is_check:
            check(FOLDER, wanted)
            check_blueprint(declarations, versions)
            return
        save(BLUEPRINT, blueprint.text(declarations, versions).encode())
        for name, graph in templates():
            if not is_current(path := FOLDER / f"{name}.json", wanted[path.name]):
                picture = draw_thumbnail(host, graph, declarations)
                save(path.with_suffix(".jpg"), jpeg(picture))
                save(path, wanted[path.name].encode())
    for path in superfluous(FOLDER, wanted):
        path.unlink()


def asked(host: Host) -> tuple[dict[str, Declaration], dict[str, str]]:
    """The host's nodes, and the versions of itself and of the pack."""
    infos = cast("Mapping[str, Mapping[str, Any]]", host.get("/object_info"))
    system = cast("Mapping[str, str]", host.get("/system_stats")["system"])
    declarations = {name: declaration(info) for name, info in infos.items()}
    return declarations, saving.versions(system["comfyui_version"])


def texts(declarations: Mapping[str, Declaration], versions: Mapping[str, str]) -> dict[str, str]:
    """What each file holds, by its name."""
    return {
        f"{name}.json": saving.text(graph, declarations, versions) for name, graph in templates()
    }


def check(folder: Path, wanted: Mapping[str, str]) -> None:
    outdated = [name for name, text in wanted.items() if not is_current(folder / name, text)]
    outdated += [path.name for path in superfluous(folder, wanted)]
    if outdated:
        raise SystemExit(f"Out of date: {', '.join(outdated)}. Run: python -m tools.templates")


def check_blueprint(declarations: Mapping[str, Declaration], versions: Mapping[str, str]) -> None:
    if BLUEPRINT.read_text("utf-8") != blueprint.text(declarations, versions):
        raise SystemExit(f"Out of date: {BLUEPRINT.name}. Run: python -m tools.templates")


def is_current(path: Path, text: str) -> bool:
    """Whether the file is as described and has its picture."""
    is_there = path.is_file() and path.with_suffix(".jpg").is_file()
    return is_there and path.read_text("utf-8") == text


def superfluous(folder: Path, wanted: Mapping[str, str]) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if f"{path.stem}.json" not in wanted]


def draw_thumbnail(
    host: Host, graph: Graph, declarations: Mapping[str, Declaration]
) -> Image.Image:
    if graph.needs_downloads:
        return thumbnails.of_graph(graph)
    return thumbnails.of_pictures(running.draw(host.url, graph, declarations))


def jpeg(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=90)
    return file.getvalue()


def save(path: Path, content: bytes) -> None:
    with atomic_write(path) as file:
        file.write(content)
    print(os.path.relpath(path), flush=True)


if __name__ == "__main__":
    main()
