"""Flag-DiT evaluated in float64, token by token, from the paper and the released weights' names.

Nothing of the package is used: an independent reading of the same model. Slow; for tiny ones.
"""

import math

import torch
import torch.nn.functional as F


class Reference:
    """A checkpoint (released names) with its number of heads; `velocity` is its forward pass."""

    def __init__(self, weights, *, channels=4, theta=10000.0, linear=1.0, base_tokens=None):
        self.weights = {key: tensor.double() for key, tensor in weights.items()}
        self.channels, self.theta, self.linear = channels, theta, linear
        self.base_tokens = base_tokens  # of proportional attention; None: off
        self.heads = len(weights["layers.0.attention.gate"])
        self.dim = len(weights["x_embedder.bias"])
        self.head_dim = self.dim // self.heads
        self.kv_heads = len(weights["layers.0.attention.wk.weight"]) // self.head_dim
        self.layers = 1 + max(int(k.split(".")[1]) for k in weights if k.startswith("layers."))

    def linear_layer(self, name, x):
        y = x @ self.weights[f"{name}.weight"].T
        return y + self.weights[f"{name}.bias"] if f"{name}.bias" in self.weights else y

    def velocity(self, x, t, caption, mask):
        """(B, C, H, W): each picture by itself."""
        rows = zip(x.double(), t.double(), caption.double(), mask, strict=True)
        return torch.stack([self.one(*row) for row in rows])

    def one(self, x, t, caption, mask):
        height, width = x.shape[1] // 2, x.shape[2] // 2
        tokens = self.tokens(x, height, width)
        caption = caption[mask.bool()]  # padding is left out, not masked
        condition = self.condition(t, caption)
        for index in range(self.layers):
            tokens = self.layer(f"layers.{index}", tokens, caption, condition)
        shift, scale = self.modulation("final_layer", condition, 2)
        normal = F.layer_norm(tokens, (self.dim,), eps=1e-6)
        patches = self.linear_layer("final_layer.linear", normal * (1 + scale) + shift)
        return self.picture(patches, height, width)

    def tokens(self, x, height, width):
        line = []
        for row in range(height):
            for column in range(width):
                patch = x[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
                line.append(self.linear_layer("x_embedder", patch.reshape(-1)))
            line.append(self.weights["eol_token"])
        return torch.stack(line)

    def picture(self, patches, height, width):
        out = torch.empty(self.channels, 2 * height, 2 * width, dtype=torch.float64)
        for row in range(height):
            for column in range(width):
                patch = patches[row * (width + 1) + column].reshape(2, 2, -1)
                place = out[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
                place.copy_(patch.permute(2, 0, 1)[: self.channels])
        return out

    def condition(self, t, caption):
        angles = [t * 10000.0 ** (-k / 128) for k in range(128)]
        waves = torch.tensor([math.cos(a) for a in angles] + [math.sin(a) for a in angles])
        hidden = F.silu(self.linear_layer("t_embedder.mlp.0", waves.double()))
        pooled = caption.mean(0) if len(caption) else caption.new_zeros(caption.shape[1])
        normal = self.layer_norm("cap_embedder.0", pooled)
        time = self.linear_layer("t_embedder.mlp.2", hidden)
        return time + self.linear_layer("cap_embedder.1", normal)

    def modulation(self, name, condition, count):
        return self.linear_layer(f"{name}.adaLN_modulation.1", F.silu(condition)).chunk(count)

    def layer_norm(self, name, x):
        if f"{name}.weight" not in self.weights:
            return x
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return F.layer_norm(x, x.shape[-1:], weight, bias, eps=1e-5)

    def rms_norm(self, name, x):
        return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * self.weights[name]

    def layer(self, name, x, caption, condition):
        b1, s1, g1, b2, s2, g2 = self.modulation(name, condition, 6)
        text = self.rms_norm(f"{name}.attention_y_norm.weight", caption)
        inner = self.rms_norm(f"{name}.attention_norm.weight", x) * (1 + s1) + b1
        x = x + g1 * self.attention(f"{name}.attention", inner, text)
        inner = self.rms_norm(f"{name}.ffn_norm.weight", x) * (1 + s2) + b2
        ffn = f"{name}.feed_forward"
        hidden = F.silu(self.linear_layer(f"{ffn}.w1", inner)) * self.linear_layer(
            f"{ffn}.w3", inner
        )
        return x + g2 * self.linear_layer(f"{ffn}.w2", hidden)

    def attention(self, name, x, text):
        q = self.layer_norm(f"{name}.q_norm", self.linear_layer(f"{name}.wq", x))
        k = self.layer_norm(f"{name}.k_norm", self.linear_layer(f"{name}.wk", x))
        k_y = self.layer_norm(f"{name}.ky_norm", self.linear_layer(f"{name}.wk_y", text))
        v, v_y = self.linear_layer(f"{name}.wv", x), self.linear_layer(f"{name}.wv_y", text)
        plain = self.head_dim**-0.5
        scale = plain
        if self.base_tokens is not None:
            scale *= math.sqrt(math.log(len(x), self.base_tokens))
        out = []
        for head in range(self.heads):
            own = slice(head * self.head_dim, (head + 1) * self.head_dim)
            group = head * self.kv_heads // self.heads
            shared = slice(group * self.head_dim, (group + 1) * self.head_dim)
            query, key = self.rotated(q[:, own]), self.rotated(k[:, shared])
            image = (query @ key.T * scale).softmax(-1) @ v[:, shared]
            cross = (query @ k_y[:, shared].T * plain).softmax(-1) @ v_y[:, shared]
            out.append(image + self.weights[f"{name}.gate"][head].tanh() * cross)
        return self.linear_layer(f"{name}.wo", torch.cat(out, dim=-1))

    def rotated(self, x):
        """Neighboring channels as complex numbers, turned by position times frequency."""
        pairs = torch.view_as_complex(x.reshape(len(x), -1, 2))
        k = torch.arange(self.head_dim // 2, dtype=torch.float64)
        frequency = self.theta ** (-2 * k / self.head_dim) / self.linear
        angles = torch.arange(len(x), dtype=torch.float64)[:, None] * frequency
        turned = pairs * torch.polar(torch.ones_like(angles), angles)
        return torch.view_as_real(turned).reshape(x.shape)
