"""What a language model is shown, so that it writes a long prompt."""

import pytest

from lumina_next.lumina.prompts.enhancing import EXAMPLES, few_shot


@pytest.mark.parametrize(
    "prompt, line",
    [
        ("a red cat", "a red cat"),
        (" a cat\n\nand   a dog\n", "a cat and a dog"),
        ("雪の中の赤い狐", "雪の中の赤い狐"),
        ("кот (в шляпе:1.3)", "кот (в шляпе:1.3)"),
        ("", ""),
    ],
)
def test_prompt_is_the_last_of_several_pairs(prompt: str, line: str) -> None:
    text = few_shot(prompt)
    assert text.endswith(f"\nShort caption: {line}\nLong caption:")
    assert text.count("\nShort caption: ") == text.count("\nLong caption:") == len(EXAMPLES) + 1


def test_examples_are_plain_text_of_one_line_and_much_longer_than_their_prompts() -> None:
    assert len(EXAMPLES) == 3 and few_shot("").isascii()
    for short, long in EXAMPLES.items():
        assert "\n" not in short + long and "  " not in short + long
        assert len(long) > 5 * len(short) and long.endswith(".")
