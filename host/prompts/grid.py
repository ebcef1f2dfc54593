"""A grid of prompts as one CONDITIONING with a region for each cell."""

import comfy.sd

from ...lumina.options.regions import FEATHER, GRID, Region, grid
from ..links import Conditioning
from ..options.regions import Regions, prompted, with_regions
from .encoding import encode_each


def grid_prompt(
    clip: comfy.sd.CLIP | None,
    prompts: str,
    rows: int,
    columns: int,
    global_prompt: str = "",
    feather: float = FEATHER.default,
) -> Conditioning:
    """A prompt for each cell of a grid, from the lines of `prompts`, row by row.

    global_prompt: empty joins those of the cells, as the released code does. Raises
    ValueError unless there is a prompt for each cell.
    """
    lines = [line.strip() for line in prompts.splitlines() if line.strip()]
    cells = grid(rows, columns)
    if len(lines) != len(cells):
        raise ValueError(
            f"A grid of {rows} x {columns} has {len(cells)} cells, and there "
            f"{'is 1 prompt' if len(lines) == 1 else f'are {len(lines)} prompts'}. Write one line "
            f"for each cell, row by row, or change {' or '.join(GRID)}."
        )
    texts = {f"prompt {number}": line for number, line in enumerate(lines, start=1)}
    everywhere, *each = encode_each(
        clip, {"global": global_prompt.strip() or " ".join(lines), **texts}
    )
    regions: Regions = ()
    for cell, prompt in zip(cells, each, strict=True):
        region = Region(cell, feather=feather)
        regions += tuple(prompted(region, *entry) for entry in prompt)
    return with_regions(everywhere, regions)
