"""Several prompts as one CONDITIONING, one for each picture."""

import pytest
import torch
from safetensors.torch import save_file

from lumina_next.tests.support import tiny
from lumina_next.tests.support.text_encode import (
    CAT,
    DOG,
    MAT,
    assert_same,
    both,
    custom,
    differs,
    native,
)
from lumina_next.tests.support.tiny import assert_same_picture, ksampler


def test_every_line_is_a_row(clip):
    found, unwanted = both(clip, f"{CAT}\n\n  {DOG}\n(mat:1.3)\n", "a dog", batch=True)
    ((features, rest),) = found
    each = [native(clip, line)[0] for line in (CAT, DOG, "(mat:1.3)")]
    longest = max(one.shape[1] for one, _ in each)
    assert features.shape == (3, longest, tiny.CONFIG.caption_dim)
    assert rest["attention_mask"].shape == (3, longest) and rest["pooled_output"] is None
    for row, mask, (one, own) in zip(features, rest["attention_mask"], each, strict=True):
        length = one.shape[1]
        assert torch.equal(row[:length], one[0]) and not row[length:].any()
        assert mask.tolist() == own["attention_mask"][0].tolist() + [0] * (longest - length)
    assert_same(unwanted, native(clip, "a dog"))


def test_one_line_is_no_batch(clip):
    assert_same(both(clip, f"\n{CAT}\n", "\n", batch=True)[0], native(clip, CAT))
    assert_same(both(clip, f"\n{CAT}\n", "\n", batch=True)[1], native(clip, ""))


def test_template_and_cleaning_act_on_every_line(clip):
    found = both(clip, "A Cat\nA 猫", batch=True, cleaning="Latin text", **custom("{prompt}, mat"))
    expected = both(clip, "a cat, mat\nA 猫, mat", batch=True)
    assert_same(found[0], expected[0])


def pictures(model, positive, negative, count):
    """(count, 4, 16, 12), all from the same noise, so that only prompts set them apart."""
    import nodes

    latent = {"samples": torch.zeros(count, 4, 16, 12), "batch_index": [0] * count}
    (out,) = nodes.common_ksampler(
        model, tiny.SEED, tiny.STEPS, tiny.GUIDANCE, "euler", "normal", positive, negative, latent
    )
    return out["samples"]


def alone(model, clip, positive, negative=""):
    return ksampler(model, 16, 12, native(clip, positive), native(clip, negative))


@pytest.mark.parametrize("negative", ["", "a dog", "a dog\nthe blue old tree\nwater"])
def test_picture_of_a_row_is_the_one_drawn_alone(model, clip, negative):
    lines, unwanted = [CAT, DOG, MAT], negative.split("\n")
    unwanted = unwanted * (len(lines) // len(unwanted))
    found = pictures(model, *both(clip, "\n".join(lines), negative, batch=True), 3)
    for picture, line, other in zip(found, lines, unwanted, strict=True):
        assert_same_picture(picture[None], alone(model, clip, line, other))
    assert not torch.allclose(found[0], found[1], atol=0.05)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_other_batch_sizes_take_the_prompts_in_turn(model, clip, count):
    lines = [CAT, DOG, MAT]
    found = pictures(model, *both(clip, "\n".join(lines), batch=True), count)
    for number, picture in enumerate(found):
        assert_same_picture(picture[None], alone(model, clip, lines[number % 3]))


@pytest.mark.parametrize("negative", ["a\nb", "a\nb\nc\nd"])
def test_negative_lines_that_fit_nothing_are_counted(clip, negative):
    count = negative.count("\n") + 1
    with pytest.raises(ValueError, match=rf'"positive" has 3, "negative" has {count}\..*one line'):
        both(clip, f"{CAT}\n{DOG}\n{MAT}", negative, batch=True)


def native_node(name, **inputs):
    import nodes

    kind = nodes.NODE_CLASS_MAPPINGS[name]
    return getattr(kind(), kind.FUNCTION)(**inputs)[0]


@pytest.fixture
def scheduled(clip, host):
    """The CLIP with a LoRA that comes into force half way through the run."""
    keys = clip.cond_stage_model.state_dict()
    (key,) = (key for key in keys if key.endswith("layers.0.mlp.up_proj.weight"))
    high, wide = keys[key].shape
    name = f"text_encoders.{key.removesuffix('.weight')}"
    generator = torch.Generator().manual_seed(5)
    lora = {
        f"{name}.lora_up.weight": torch.randn(high, 2, generator=generator),
        f"{name}.lora_down.weight": torch.randn(2, wide, generator=generator),
    }
    save_file(lora, host.models / "loras" / "of-text-encoder.safetensors")
    hooks = native_node(
        "CreateHookLora", lora_name="of-text-encoder.safetensors", strength_model=0.0,
        strength_clip=1.0,
    )  # fmt: skip
    frames = native_node("CreateHookKeyframe", strength_mult=0.0, start_percent=0.0)
    frames = native_node(
        "CreateHookKeyframe", strength_mult=1.0, start_percent=0.5, prev_hook_kf=frames
    )
    hooks = native_node("SetHookKeyframes", hooks=hooks, hook_kf=frames)
    return native_node(
        "SetClipHooks", clip=clip, apply_to_conds=True, schedule_clip=True, hooks=hooks
    )


def test_scheduled_clip_gives_an_entry_for_each_time_range(scheduled):
    found = both(scheduled, f"{CAT}\n{DOG}", "", batch=True)[0]
    each = [native(scheduled, CAT), native(scheduled, DOG)]
    ranges = [(rest["clip_start_percent"], rest["clip_end_percent"]) for _, rest in found]
    assert ranges == [(0.0, 0.5), (0.5, 1.0)]
    assert differs(each[0][:1], each[0][1:])
    for part, (features, rest) in enumerate(found):
        for row, entries in enumerate(each):
            one = entries[part][0]
            assert torch.equal(features[row, : one.shape[1]], one[0])
        assert rest["attention_mask"].sum(1).tolist() == [e[part][0].shape[1] for e in each]
