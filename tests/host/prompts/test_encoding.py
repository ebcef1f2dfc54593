"""Lumina-Next Text Encode: two "CLIP Text Encode" at its defaults, and what each setting adds."""

import logging
import random
from types import SimpleNamespace

import pytest
import sentencepiece
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

from lumina_next.lumina.prompts.cleaning import clean
from lumina_next.tests.lumina.prompts.test_cleaning import CLEANED
from lumina_next.tests.support import jobs, tiny
from lumina_next.tests.support.tiny import assert_same_picture, ksampler

CAT, DOG, MAT = "a red cat", "a green dog sit on the mat", "the blue mat"


@pytest.fixture
def clip(host):
    """In float32: the host would halve such weights, which rounds them."""
    from lumina_next.host.checkpoints import folders
    from lumina_next.host.text_encoders import loading

    tiny.write_gemma(host)
    path = folders.find(folders.TEXT_ENCODERS, "gemma.safetensors")
    return loading.load_text_encoder_file(str(path), {"dtype": torch.float32})


@pytest.fixture
def model(folder):
    from lumina_next.host.model import loading as model_loading

    return model_loading.load_model("native.safetensors")


@pytest.fixture
def shown(monkeypatch):
    """What the editor was told to show under the node; the last text is the one that stays."""
    from comfy_execution.utils import CurrentNodeContext
    from server import PromptServer

    texts = []
    editor = SimpleNamespace(send_progress_text=lambda text, node_id: texts.append(text))
    monkeypatch.setattr(PromptServer, "instance", editor, raising=False)
    with CurrentNodeContext(prompt_id="job", node_id="7"):
        yield texts


def schema():
    from lumina_next.nodes.prompts import TextEncode

    return TextEncode.define_schema()


def defaults():
    """What the editor's widgets hold on a new node, in the form that a run hands it over."""
    values = {item.id: getattr(item, "default", None) for item in schema().inputs}
    (template,) = (item for item in schema().inputs if item.id == "template")
    return values | {"template": {"template": template.options[0].key}}


def both(clip, positive=CAT, negative="", **settings):
    """(positive, negative) as the node gives them out."""
    from lumina_next.nodes.prompts import TextEncode

    values = {**defaults(), "clip": clip, "positive": positive, "negative": negative}
    return TextEncode.execute(**values | settings).result


def custom(text):
    return {"template": {"template": "custom", "text": text}}


def native(clip, text):
    """What "CLIP Text Encode" gives out."""
    import nodes

    return nodes.CLIPTextEncode().encode(clip, text)[0]


def assert_same(found, expected):
    """To the bit, everything that a CONDITIONING carries."""
    assert len(found) == len(expected)
    for (features, rest), (other_features, other_rest) in zip(found, expected, strict=True):
        assert torch.equal(features, other_features)
        assert rest.keys() == other_rest.keys()
        assert_close(rest, other_rest, rtol=0, atol=0)


def differs(found, expected):
    """Whether the features of two prompts of equal length differ visibly, or their lengths do."""
    (one, _), (other, _) = found[0], expected[0]
    return one.shape != other.shape or (one - other).abs().max() > 1e-3


def tokens(text):
    """How many there are, by SentencePiece itself."""
    return 1 + len(sentencepiece.SentencePieceProcessor(model_proto=tiny.pieces()).encode(text))


# --- the defaults


@pytest.mark.parametrize(
    "positive, negative",
    [(CAT, ""), (" (A red:1.3) Cat.jpg ", "(dog:0.5)"), ("猫\nsee http://a.com", DOG), ("", "")],
)
def test_new_node_is_two_native_ones_to_the_bit(clip, positive, negative):
    found = both(clip, positive, negative)
    assert_same(found[0], native(clip, positive))
    assert_same(found[1], native(clip, negative))


def test_only_prompts_are_shown_at_first(host):
    advanced = {i.id: bool(i.as_dict().get("advanced")) for i in schema().inputs if i.id != "clip"}
    assert [name for name, hidden in advanced.items() if not hidden] == ["positive", "negative"]
    assert schema().inputs[1].as_dict()["dynamicPrompts"] is True


def test_everything_has_a_tooltip(host):
    items = [*schema().inputs, *schema().outputs]
    nested = [item for each in schema().inputs for item in each.get_all()]
    assert all(item.tooltip and item.tooltip.endswith(".") for item in [*items, *nested])
    assert all(len(item.tooltip) < 500 for item in nested)


# --- weights


def empty(length):
    """Features of the text that weights lead away from: the begin token, then padding."""
    ids = torch.tensor([[2] + [0] * (length - 1)])
    states = tiny.gemma()(ids, attention_mask=(ids != 0).long(), output_hidden_states=True)
    return states.hidden_states[-2]


@pytest.mark.parametrize("text", ["a (red:1.0) cat", "(a red cat:1.0)", "((a:1.0) red) cat"])
def test_weight_1_changes_nothing_to_the_bit(clip, text):
    found, plain = both(clip, text)[0][0][0], both(clip, CAT)[0][0][0]
    words = tokens("a red") if "red)" in text else tokens("")
    assert torch.equal(found[:, words:], plain[:, words:])
    assert torch.equal(found, plain) == ("red)" not in text)


@pytest.mark.parametrize(
    "text, weight",
    [
        ("a red (cat)", 1.1),
        ("a red ((cat))", 1.21),
        ("a red (cat:0.3)", 0.3),
        ("a red (cat:-0.5)", -0.5),
        ("a red ((cat:1.5):1.2)", 1.5),
        ("a red ((cat):1.2)", 1.32),
        ("a red (cat:0)", 0.0),
    ],
)
def test_weight_leads_away_from_the_empty_prompt_by_its_amount(clip, text, weight):
    (plain, _), (found, rest) = native(clip, CAT)[0], both(clip, text)[0][0]
    start, before = empty(plain.shape[1]), tokens("a red ")
    assert torch.equal(found[:, :before], plain[:, :before])
    expected = start + weight * (plain - start)
    assert_close(found[:, before:], expected[:, before:])
    assert rest["attention_mask"].all()


def test_negative_prompt_has_weights_too(clip):
    assert_same(both(clip, "", "a (dog:1.4)")[1], native(clip, "a (dog:1.4)"))


# --- templates


@pytest.mark.parametrize("name", ["superior", "alignment"])
def test_system_prompt_is_the_hosts_to_the_bit(clip, host, name):
    import nodes

    lumina2 = nodes.NODE_CLASS_MAPPINGS["CLIPTextEncodeLumina2"]
    expected = lumina2.execute(clip, CAT, name).result[0]
    found = both(clip, CAT, MAT, template={"template": name})
    assert_same(found[0], expected)
    assert_same(found[1], native(clip, MAT))
    assert differs(found[0], native(clip, CAT))


def test_template_stands_around_the_positive_prompt_only(clip):
    found = both(clip, "(cat:0.5)", "a dog", **custom("a (green {prompt}:1.3), the mat"))
    assert_same(found[0], native(clip, "a (green (cat:0.5):1.3), the mat"))
    assert_same(found[1], native(clip, "a dog"))


def test_template_without_a_place_is_refused(clip):
    with pytest.raises(ValueError, match="no {prompt}"):
        both(clip, CAT, **custom("the mat"))


def test_template_that_nobody_sent_is_asked_for(clip):
    with pytest.raises(
        ValueError, match='"template" is missing.*none, superior, alignment, custom'
    ):
        both(clip, CAT, template=None)


# --- cleaning


def test_cleaned_prompt_is_encoded(clip, shown):
    given = "A red Cat.jpg (Dog:1.2), http://example.com"
    found = both(clip, given, given, cleaning="all")
    assert_same(found[0], native(clip, "a red (dog:1.2)"))
    assert_same(found[1], native(clip, given))
    assert 'positive: cleaned to "a red (dog:1.2)"' in shown[-1]


def test_latin_cleaning_spares_other_scripts(clip):
    assert_same(both(clip, "A 猫", cleaning="Latin text")[0], native(clip, "A 猫"))
    assert_same(both(clip, "A Cat", cleaning="Latin text")[0], native(clip, "a cat"))
    assert_same(both(clip, "A 猫", cleaning="all")[0], native(clip, "a 猫"))


def test_prompt_that_is_only_an_address_is_empty_and_says_so(clip, shown):
    found = both(clip, "https://example.com/cat", cleaning="all")
    assert_same(found[0], native(clip, ""))
    assert "positive: cleaning left nothing of it" in shown[-1]


def test_host_reads_the_same_weights_from_a_cleaned_prompt(host):
    from comfy.sd1_clip import token_weights

    given = "A (RED:1.3) Cat.png (on (the BIG:-0.7) Mat), [x] (r2d2:1.9) (embedding:My_Style:0.5)"
    assert token_weights(clean(given), 1.0) == [
        ("a ", 1.0), ("red", 1.3), (" ", 1.0), ("on ", 1.1), ("the big", -0.7), (" mat", 1.1),
        (", x ", 1.0), ("embedding:My_Style", 0.5),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def of_diffusers():
    """LuminaPipeline's cleaning: text to text."""
    pytest.importorskip("bs4")  # without these two it does not clean
    pytest.importorskip("ftfy")
    from diffusers import LuminaPipeline  # seconds to import

    pipeline = LuminaPipeline.__new__(LuminaPipeline)
    return lambda text: pipeline._text_preprocessing(text, clean_caption=True)[0]


@pytest.mark.parametrize("text", CLEANED)
def test_diffusers_cleans_the_same(of_diffusers, text):
    assert of_diffusers(text) == CLEANED[text]


WORDS = """
A|Cat|of|RED|Zürich|naïve|O'Neil|snow-white|old_town|R2D2|jc6640|iphone6s|b52|abc123|xbox360|12
3.14|1,000|1234567|#12|#1234|#12345|1920x1080|4x4|12:30|192.168.0.1|page 3|page|free shipping
shipping|download free|click for more|click on it|png|jpg image|a.png|photo_1.JPG|/home/x/y.webp
<b>|</b>|<br/>|<a href="u">|<person>|<!-- no -->|&amp;|&quot;|&nbsp;|&#39;|&eacute;|&mdash;|@nick
me@home|http://example.com|https://www.example.org/a/b_c-d|shop.example.net|“quoted”|‘single’
«guillemets»|—|–|-|--|…|...|..|.|!|?!|;|:|'|"|''|""|©|®|™|•|½|~|*|/|[x]|{y}|\\n|50%|%20|+|C++|<3
a < b|ＦＵＬＬ|ﬁne|привет|שלום|مرحبا|हिन्दी|ไทย|한국어|カタカナ|😀|ß|İ|Σ|²|°C|€5|$3|a/b|a,b|Mr.
""".replace("\n", "|").strip("|").split("|")  # fmt: skip


@pytest.mark.parametrize("seed", range(10))
def test_diffusers_cleans_any_mixture_the_same(of_diffusers, seed):
    draw = random.Random(seed)
    for _ in range(40):
        words = [draw.choice(WORDS) + draw.choice(["", "", "", ",", "."]) for _ in range(8)]
        text = " ".join(words[: draw.randint(1, 8)])
        assert clean(text) == of_diffusers(text), text


# --- several prompts


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


# --- what the node says


def test_tokens_of_both_prompts_are_shown(clip, shown):
    both(clip, DOG, "")
    assert shown == [f"positive: {tokens(DOG)} of 256 tokens; negative: 1"]


def test_tokens_of_a_batch_are_shown(clip, shown):
    both(clip, f"{CAT}\n{DOG}", f"{CAT}\n\n{CAT}", batch=True)
    assert shown == [
        f"positive: {tokens(CAT)} to {tokens(DOG)} of 256 tokens; negative: {tokens(CAT)}\n"
        "2 prompts: give the latent a batch_size of 2"
    ]


@pytest.mark.parametrize("place", ["positive", "negative"])
def test_what_was_cut_off_is_shown(clip, shown, place):
    words = (tiny.WORDS * 30)[:400]
    text = " ".join(words)
    prompts = {"positive": CAT, "negative": CAT, place: text}
    found = both(clip, **prompts)
    assert {"positive": found[0], "negative": found[1]}[place][0][0].shape[1] == 256
    counts, cut = shown[-1].split("\n")
    assert f"{place}: {tokens(text)}" in counts
    assert cut.startswith(f"{place}: The prompt has {tokens(text)} tokens")
    (begin,) = cut.split('from "')[1:]
    begin = begin.split(' ..."')[0].split(" ")
    fitting = max(n for n in range(401) if tokens(" ".join(words[:n])) <= 256)
    assert begin[:8] == words[fitting : fitting + 8]


def test_cut_line_of_a_batch_is_named(clip, shown):
    both(clip, f"{CAT}\n{'cat ' * 300}", batch=True)
    assert "positive 2: The prompt has " in shown[-1] and "positive 1" not in shown[-1]


def test_cut_is_logged_once_and_shown_once(clip, shown, caplog):
    with caplog.at_level(logging.INFO):
        both(clip, "cat " * 300)
    (logged,) = [record for record in caplog.records if "cut off" in record.getMessage()]
    assert logged.levelno == logging.WARNING and shown == [logged.getMessage()]
    assert shown[0].count("cut off") == 1


def test_missing_embedding_is_shown_beside_the_lengths(clip, shown):
    both(clip, "a cat embedding:nobody")
    (text,) = shown
    assert "256 tokens" in text and 'positive: There is no embedding "nobody"' in text


def test_many_remarks_are_counted(clip, shown):
    both(clip, "A Cat\n" * 20, batch=True, cleaning="all")
    assert shown[-1].count("cleaned to") == 6 and shown[-1].endswith("and so on, 14 more")


def test_prompt_that_just_fits_is_not_cut(clip, shown):
    text = "a"
    while tokens(text + " a") <= 256:
        text += " a"
    assert tokens(text) == 256
    both(clip, text)
    assert shown == ["positive: 256 of 256 tokens; negative: 1"]


def test_text_without_spaces_is_cut_at_a_letter(clip, shown):
    both(clip, "猫" * 300)
    assert 'from "猫猫' in shown[-1]


# --- other encoders, and none


def test_missing_clip_is_said(host):
    with pytest.raises(ValueError, match='"clip" is empty.*Load Lumina-Next Text Encoder'):
        both(None)


@pytest.fixture
def clip_l(host):
    """A CLIP-L of two tiny layers: prompts of 77 tokens, a pooled vector, no mask."""
    import comfy.sd
    import comfy.sd1_clip
    import comfy.supported_models_base

    sizes = {
        "num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "vocab_size": 49408,
        "intermediate_size": 32, "hidden_act": "quick_gelu", "max_position_embeddings": 77,
        "eos_token_id": 49407,
    }  # fmt: skip

    class Tiny(comfy.sd1_clip.SDClipModel):
        def __init__(self, device="cpu", dtype=None, model_options=None):
            super().__init__(device, dtype=dtype, textmodel_json_config=sizes)

    class Model(comfy.sd1_clip.SD1ClipModel):
        def __init__(self, device="cpu", dtype=None, model_options=None):
            super().__init__(device, dtype, {}, clip_model=Tiny)

    target = comfy.supported_models_base.ClipTarget(comfy.sd1_clip.SD1Tokenizer, Model)
    clip = comfy.sd.CLIP(target, parameters=1)
    for parameter in clip.cond_stage_model.parameters():
        torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(1))
    return clip


def test_other_encoders_work_as_in_the_native_node(clip_l, shown):
    found = both(clip_l, "a (red:1.3) cat", "dog")
    assert_same(found[0], native(clip_l, "a (red:1.3) cat"))
    assert_same(found[1], native(clip_l, "dog"))
    assert shown == []


def test_batch_of_another_encoder_keeps_its_pooled_vectors(clip_l):
    long = "cat " * 100  # two parts of 77 tokens
    ((features, rest),) = both(clip_l, f"a cat\na dog\n{long}", batch=True)[0]
    each = [native(clip_l, text)[0] for text in ("a cat", "a dog", long.strip())]
    assert features.shape == (3, 154, 16) and torch.equal(features[2], each[2][0][0])
    assert torch.equal(rest["pooled_output"], torch.cat([own["pooled_output"] for _, own in each]))
    assert rest["attention_mask"].sum(1).tolist() == [77, 77, 154]
    ((_, rest),) = both(clip_l, "a cat\na dog", batch=True)[0]
    assert "attention_mask" not in rest


# --- in a graph


ENCODE = {
    "class_type": "LuminaNextTextEncode",
    "inputs": {
        "clip": ["text_encoder", 0],
        "positive": "a blue square",
        "negative": "a red circle",
        "template": "none",
        "cleaning": "off",
        "batch": False,
    },
}


def graph(**inputs):
    """The demo's with the node in place of its two CLIPTextEncode, and the latent saved."""
    api = jobs.with_inputs(
        jobs.good_graph(), sampler={"positive": ["both", 0], "negative": ["both", 1], "seed": 3}
    )
    api["both"] = {**ENCODE, "inputs": ENCODE["inputs"] | inputs}
    api["latents"] = {
        "class_type": "SaveLatent",
        "inputs": {"samples": ["sampler", 0], "filename_prefix": "text-encode"},
    }
    return api


def test_server_draws_the_picture_of_two_native_nodes(server):
    def drawn(api):
        return jobs.saved_latent(server, jobs.run(server, api))

    positive, negative = ENCODE["inputs"]["positive"], ENCODE["inputs"]["negative"]
    expected = drawn(
        jobs.with_inputs(
            graph(),
            sampler={"positive": ["positive", 0], "negative": ["negative", 0]},
            positive={"text": positive},
            negative={"text": negative},
        )
    )
    framed = {"template": "custom", "template.text": "a blue {prompt}", "positive": "square"}
    cleaned = {"cleaning": "all", "positive": "A blue  SQUARE https://example.com"}
    for inputs in ({}, framed, cleaned):
        assert torch.equal(drawn(graph(**inputs)), expected)
    swapped = drawn(graph(positive=negative, negative=positive))
    assert not torch.allclose(swapped, expected, atol=0.1)


def test_server_draws_a_batch(server):
    api = jobs.with_inputs(
        graph(batch=True, positive="a blue square\na red circle"), latent={"batch_size": 2}
    )
    latent = jobs.saved_latent(server, jobs.run(server, api))
    assert latent.shape[0] == 2 and latent.isfinite().all()
