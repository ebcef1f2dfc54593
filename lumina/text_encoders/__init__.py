"""Language models as text encoders: tokens in, one of their hidden states out.

Gemma-1 and LLaMA-2 share one `Decoder`, which can also generate text. T5's network is the host's;
here are only its key names and sizes.
"""

from .decoder import Decoder
from .weights import load_decoder

__all__ = ["Decoder", "load_decoder"]
