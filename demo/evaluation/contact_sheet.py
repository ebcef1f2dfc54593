"""Twelve pictures of the demo model with their prompts, as one picture: demo/contact-sheet.png.

    python -m demo.evaluation.contact_sheet

The prompts are the first twelve of a random draw among scenes that training never showed, and each
picture is the first one made of its prompt: none was chosen. They come from ComfyUI, by the graph
and the requests of `make demo`, and are shown with every pixel doubled.
"""

from __future__ import annotations

import io
import json
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from lumina.checkpoints.convert.disk import atomic_write
from tools.comfyui import Host
from tools.environment import ROOT

from .. import GRAPH, client
from ..scenes.drawing import main_caption, sample_held_out_scene

SHEET = ROOT / "demo" / "contact-sheet.png"
COLUMNS, ROWS = 4, 3
SCALE = 2
GAP_PX, LINE_PX, LINES = 20, 20, 3
INK, PAPER = (40, 40, 40), (244, 244, 244)


def main() -> None:
    prompts = some_prompts(COLUMNS * ROWS)
    with tempfile.TemporaryDirectory() as base, Host(Path(base)) as host:
        pictures = []
        for prompt, picture in zip(prompts, draw(host.url, prompts), strict=True):
            print(prompt, flush=True)
            pictures.append(picture)
    save(tiled(pictures, prompts))
    print(f"{SHEET.relative_to(ROOT)}: {SHEET.stat().st_size / 1000:.0f} kB")


def some_prompts(count: int) -> list[str]:
    """Descriptions of scenes that training holds back, with one thing and two things in turn."""
    rng = random.Random(0)
    return [main_caption(sample_held_out_scene(rng, 1 + n % 2)) for n in range(count)]


def draw(url: str, prompts: list[str]) -> Iterator[Image.Image]:
    """One picture for each prompt, from the ComfyUI at `url`."""
    graph = json.loads(GRAPH.read_text())
    queued = []
    for prompt in prompts:
        client.titled(graph, "Prompt")["inputs"]["text"] = prompt
        queued.append(client.queue(url, graph))
    for job in queued:
        (saved,) = client.wait(url, job)
        yield Image.open(io.BytesIO(client.download(url, saved))).convert("RGB")


def tiled(pictures: list[Image.Image], prompts: list[str]) -> Image.Image:
    """The pictures in rows, each with its prompt underneath."""
    width, height = (side * SCALE for side in pictures[0].size)
    cell = width + GAP_PX, height + LINES * LINE_PX + GAP_PX
    sheet = Image.new("RGB", (COLUMNS * cell[0] + GAP_PX, ROWS * cell[1] + GAP_PX), PAPER)
    canvas, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=15)
    for n, (picture, prompt) in enumerate(zip(pictures, prompts, strict=True)):
        x, y = GAP_PX + n % COLUMNS * cell[0], GAP_PX + n // COLUMNS * cell[1]
        sheet.paste(picture.resize((width, height), Image.Resampling.NEAREST), (x, y))
        for line, words in enumerate(wrapped(prompt, font, width)):
            canvas.text((x, y + height + 4 + line * LINE_PX), words, INK, font)
    return sheet


def wrapped(text: str, font: ImageFont.FreeTypeFont, width_px: int) -> list[str]:
    """The text in lines that are no wider than `width_px`, broken between words."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width_px:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def save(sheet: Image.Image) -> None:
    with atomic_write(SHEET) as file:
        sheet.save(file, "PNG", optimize=True)


if __name__ == "__main__":
    main()
