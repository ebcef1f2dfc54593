"""A sound model that mutations break, and the odd names and values that they put into it."""

import json

NAMES = [
    "", ".", "..", "/", "../outside.safetensors", "\x1b[31mred\x1b[0m", "a\nb", "\x00", "<b>x</b>",
    "[[a|http://x]]", "n" * 300, "é" * 200, "layers.3000000.attention.wq.weight",
    "layers.99999999999999999999.w", "model.layers.3000000.mlp.up_proj.weight", "__metadata__",
    "encoder.block.3000000.layer.0.SelfAttention.q.weight", "layers.0.attention.gate", "scaled_fp8",
    "spiece_model", "tokenizer_json", "text_encoder_config", "lm_head.weight", "x.comfy_quant",
]  # fmt: skip
VALUES = [
    None, True, False, 0, -1, 1, 3, 64, 2**31, 2**63, 2**70, 10**9, 20_000, 1e8, 1e400, 0.5,
    float("nan"), "", "4", "large", "é", [], [0], [1, 2], [[1]], ["a"], {}, {"a": 1}, {"type": 3},
]  # fmt: skip


class Case:
    """A sound model to be broken, and the chance by which it is."""

    def __init__(self, chance, weights, config_json):
        self.chance, self.weights, self.config_json = chance, weights, config_json

    def metadata(self):
        return {"config": json.dumps(self.config_json)}

    def key(self):
        return self.chance.choice(sorted(self.weights))


def flipped(chance, content):
    """The bytes with a few changed, mostly near the start, where headers are."""
    changed = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        end = chance.choice([64, 2000, len(changed)])
        changed[chance.randrange(min(end, len(changed)))] = chance.randrange(256)
    return bytes(changed)
