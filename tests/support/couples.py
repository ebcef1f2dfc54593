"""Stand-ins for regions of other packs, which patch cross-attention as in U-Nets.

Each has what its kind does: the batch is repeated for each region, captions of other lengths are
repeated to a common multiple, masks are resized to what `extra_options` say, and the partner adds.
"""

import math

import torch
import torch.nn.functional as F


class Couple:
    """As prompt-control's COUPLE: a base prompt and others, for prompt and negative prompt alike.

    masks (R, 1, H, W), the base one first, sum to 1. captions: of the others.
    """

    only_prompt = False
    replaces_base = False

    def __init__(self, masks, captions):
        self.masks, self.captions = masks, captions

    def patched(self, model):
        model = model.clone()
        model.set_model_attn2_patch(self.before)
        model.set_model_attn2_output_patch(self.after)
        return model

    def before(self, n, context, value, extra_options):
        assert context.mean() == value.mean()
        kinds = extra_options["cond_or_uncond"]
        length = math.lcm(context.shape[1], *(caption.shape[1] for caption in self.captions))
        n_parts, context_parts = n.chunk(len(kinds)), context.chunk(len(kinds))
        queries, captions, repeated = [], [], []
        for kind, part, own in zip(kinds, n_parts, context_parts, strict=True):
            texts = [self.long(own, length)]
            if not (self.only_prompt and kind == 1):
                others = [
                    self.long(c.to(own), length).repeat(len(own), 1, 1) for c in self.captions
                ]
                texts = others if self.replaces_base else [*texts, *others]
            queries.append(part.repeat(len(texts), 1, 1))
            captions.extend(texts)
            repeated.extend([kind] * len(texts))
        self.note(extra_options, repeated)
        captions = torch.cat(captions)
        return torch.cat(queries), captions, captions

    def after(self, out, extra_options):
        kinds = self.noted(extra_options)
        rows = len(out) // len(kinds)
        masks = self.resized(out.shape[1], extra_options).repeat_interleave(rows, dim=0)
        count, results, at = len(self.masks), [], 0
        while at < len(kinds):
            if self.only_prompt and kinds[at] == 1:
                results.append(out[at * rows : (at + 1) * rows])
                at += 1
                continue
            part = out[at * rows : (at + count) * rows] * masks
            results.append(part.unflatten(0, (count, rows)).sum(0))
            at += count
        return torch.cat(results)

    @staticmethod
    def long(caption, length):
        return caption.repeat(1, length // caption.shape[1], 1)

    def note(self, extra_options, repeated):
        self.kinds = repeated

    def noted(self, extra_options):
        return self.kinds

    def resized(self, tokens, extra_options):
        """By the shape of the activations."""
        size = tuple(extra_options["activations_shape"][-2:])
        return F.interpolate(self.masks, size=size).reshape(len(self.masks), tokens, 1)


class AttentionCouple(Couple):
    """As ppm's: the negative prompt is left as it is, and notes lie in `extra_options`."""

    only_prompt = True

    def note(self, extra_options, repeated):
        extra_options["cond_or_uncond_couple"] = repeated

    def noted(self, extra_options):
        return extra_options["cond_or_uncond_couple"]


class AttentionMask(Couple):
    """As Krita's: all regions have captions of their own, and the host's own list is changed."""

    only_prompt = True
    replaces_base = True

    def note(self, extra_options, repeated):
        self.given = extra_options["cond_or_uncond"][:]
        extra_options["cond_or_uncond"][:] = repeated

    def noted(self, extra_options):
        kinds = extra_options["cond_or_uncond"][:]
        extra_options["cond_or_uncond"][:] = self.given
        return kinds

    def resized(self, tokens, extra_options):
        """By the latent's shape, halved until it has as many tokens."""
        height, width = extra_options["original_shape"][2:]
        for factor in (1, 2, 4, 8):
            size = math.ceil(height / factor), math.ceil(width / factor)
            if math.prod(size) == tokens:
                return F.interpolate(self.masks, size=size).reshape(len(self.masks), tokens, 1)
        raise ValueError("Bad mask size")
