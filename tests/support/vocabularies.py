"""Small vocabularies in every form for the tests, and texts of many scripts."""

import functools
import re
from pathlib import Path

import sentencepiece
import torch
import transformers
from hypothesis import strategies as st
from safetensors.torch import save_file
from tokenizers import Tokenizer, normalizers

from lumina_next.tests.support import protobuf, tiny

FAMILIES = tiny.TEXT_FAMILIES
SENTENCES = [
    "a red cat sits on the blue mat, and a green dog (very old) is under the tree",
    "watercolor painting of 12 ships at sea: storm, rain, lightning!",
    "一只红色的猫坐在蓝色的垫子上，一只绿色的狗在树下。",
    "水彩画：海上的十二艘船，暴风雨。",
    "青いマットの上に座っている赤い猫と、木の下の緑の犬。",
    "カタカナとひらがなと漢字の絵、雨の東京タワー",
    "قطة حمراء تجلس على سجادة زرقاء، وكلب أخضر تحت الشجرة",
    "لوحة مائية لسفينة في البحر",
    "a cat 🐈 and a dog 🐕 in the sun ☀️",
    "0 1 2 3 4 5 6 7 8 9 and 1.3 of 2.5",
]
FRAGMENTS = [*SENTENCES, *" ".join(SENTENCES).split()]
BETWEEN = ["", " ", "  ", "   ", "\n", "\n\n", ", ", "، ", "。"]
LETTERS = "abzAZ 09.,:!()猫犬木海カナひらが漢字قطةكلبش🐈🐕☀👍🏽éüß\n"
# Text in one or several languages, spaced in all ways, with parts no vocabulary knows.
PARTS = st.sampled_from(FRAGMENTS) | st.sampled_from(BETWEEN) | st.text(LETTERS, max_size=6)
MULTILINGUAL = st.lists(PARTS, max_size=8).map("".join)
# A zero byte is how the host marks an escaped parenthesis.
ANYTHING = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
FORMS = ["spiece_model", "tokenizer_json"]


@functools.cache
def vocabulary(family):
    return tiny.train_pieces(family, SENTENCES * 20, {"t5": 400}.get(family, 900))


@functools.cache
def processor(family):
    return sentencepiece.SentencePieceProcessor(model_proto=vocabulary(family))


@functools.cache
def original(family, pieces=None):
    """transformers' fast tokenizer of the same vocabulary."""
    processor = sentencepiece.SentencePieceProcessor(model_proto=pieces or vocabulary(family))
    known = {processor.id_to_piece(number): number for number in range(len(processor))}
    if family == "t5":
        scored = [(piece, processor.get_score(number)) for piece, number in known.items()]
        return transformers.T5Tokenizer(
            vocab=scored,
            extra_ids=0,
            _spm_precompiled_charsmap=character_map(pieces or vocabulary("t5")),
        )
    splits = [(piece[:i], piece[i:]) for piece in known for i in range(1, len(piece))]
    merges = [(a, b) for a, b in splits if a in known and b in known]
    merges.sort(key=lambda pair: known["".join(pair)])
    if family == "gemma":
        known = {{"<s>": "<bos>", "</s>": "<eos>"}.get(p, p): i for p, i in known.items()}
        return transformers.GemmaTokenizer(vocab=known, merges=merges)
    return transformers.LlamaTokenizer(vocab=known, merges=merges)


def character_map(pieces):
    """What a serialized SentencePiece model replaces which characters by."""
    normalizer = dict(protobuf.fields(pieces))[3]
    return dict(protobuf.fields(normalizer))[2]


def as_json(family, pieces=None):
    """The vocabulary of `tiny`, or `pieces`, as the tokenizer.json that models come with."""
    made = original(family, pieces or tiny.pieces(family)).backend_tokenizer
    made = Tokenizer.from_str(made.to_str())
    if family == "llama":  # where the first space comes from has changed in transformers since
        replaced = normalizers.Replace(" ", "▁")
        made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), replaced])
        made.pre_tokenizer = None
    return made.to_str().encode()


@functools.cache
def tokenizer(family, form="spiece_model"):
    from lumina_next.host.prompts.tokenizer import HostTokenizer
    from lumina_next.host.prompts.vocabulary import FORMS
    from lumina_next.lumina.prompts.formats import PROMPT_FORMATS

    model = vocabulary(family)
    model = model if form == "spiece_model" else as_json(family, model)
    data = {"tokenizer": FORMS[form](model), "prompt_format": PROMPT_FORMATS[family], "width": 4}
    directory = str(embeddings())
    return HostTokenizer(embedding_directory=directory, tokenizer_data=data)


@functools.cache
def embeddings():
    import folder_paths

    folder = Path(folder_paths.get_folder_paths("embeddings")[0])
    folder.mkdir(exist_ok=True)
    save_file({"x": torch.ones(3, 4)}, folder / "three.safetensors")
    save_file({"x": torch.ones(3, 5)}, folder / "wide.safetensors")
    return folder


def tokenize(family, text, form="spiece_model", **options):
    """Tokens and weights of a prompt."""
    (batch,) = tokenizer(family, form).tokenize_with_weights(text, **options).values()
    return [token for token, _ in batch[0]], [weight for _, weight in batch[0]]


def literally(text):
    """A prompt that means this text."""
    return re.sub(r"([()])", r"\\\1", text)


def with_ends(family, ids):
    known = FAMILIES[family]
    return [*known.begin, *ids, *known.end]
