"""Language models as text encoders: tokens in, one of their hidden states out.

Gemma-1 and LLaMA-2 are one decoder of ours, which also writes; of T5 only names and sizes are here.
"""

from .decoder import Decoder
from .weights import load_decoder

__all__ = ["Decoder", "load_decoder"]
