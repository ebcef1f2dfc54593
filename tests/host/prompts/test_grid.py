"""A grid of prompts: each line in its cell, and the counts that must agree."""

import pytest
from torch.testing import assert_close

from lumina_next.tests.support.host_nodes import encode, node
from lumina_next.tests.support.region_nodes import regions
from lumina_next.tests.support.tiny import assert_same_picture, ksampler


def grid(clip, prompts, rows, columns, **rest):
    return node("LuminaNextGrid", clip=clip, prompts=prompts, rows=rows, columns=columns, **rest)


LINES = "a red cat", "a green dog", "the blue mat", "some water", "the old tree", "near the cat"


@pytest.mark.parametrize(("rows", "columns"), [(2, 2), (2, 3), (1, 3), (3, 1)])
def test_grid_puts_each_line_into_its_cell(model, clip, rows, columns):
    lines = LINES[: rows * columns]
    entries = []
    for index, line in enumerate(lines):
        row, column = divmod(index, columns)
        box = {"x": column / columns, "y": row / rows, "width": 1 / columns, "height": 1 / rows}
        entries.append(([list(encode(clip, line))], box))
    joined = [list(encode(clip, " ".join(lines)))]
    found = ksampler(model, positive=grid(clip, "\n".join(lines), rows, columns))
    expected = ksampler(model, positive=regions(*entries, global_prompt=joined))
    assert_same_picture(found, expected)


def test_grid_takes_a_global_prompt_and_skips_empty_lines(clip):
    ((features, settings),) = grid(clip, "a cat\n\n  \na dog\n", 1, 2, global_prompt="old water")
    assert_close(features, encode(clip, "old water")[0])
    captions = [item.caption for item in settings["lumina_next_regions"]]
    for caption, text in zip(captions, ("a cat", "a dog"), strict=True):
        assert_close(caption, encode(clip, text)[0])


@pytest.mark.parametrize(
    ("prompts", "said"),
    [
        ("a cat", "2 x 2 has 4 cells, and there is 1 prompt"),
        ("", "are 0 prompts"),
        ("\n".join("abcde"), "4 cells, and there are 5 prompts"),
    ],
)
def test_grid_counts_its_prompts(clip, prompts, said):
    with pytest.raises(ValueError, match=said):
        grid(clip, prompts, 2, 2)


def test_grid_without_clip_says_so():
    with pytest.raises(ValueError, match='"clip" is empty'):
        grid(None, "a cat", 1, 1)
