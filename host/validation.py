"""Checks a model on disk before anything runs, as far as headers and tokenizer allow."""

import functools
from collections.abc import Callable

from ..lumina.checkpoints.files import explain_unreadable
from .checkpoints.folders import LORAS, MODELS, TEXT_ENCODERS, ModelKind, Stored, locate
from .checkpoints.reading import reading_model
from .model.loading import check_model
from .model.lora import check_lora
from .text_encoders.loading import check_text_encoder

CHECKS: dict[ModelKind, Callable[[Stored], None]] = {
    MODELS: check_model,
    TEXT_ENCODERS: check_text_encoder,
    LORAS: check_lora,
}


def explain_unusable(kind: ModelKind, name: str) -> str | None:
    """Why a model cannot be used, as an error text; None if nothing is wrong with it."""
    try:
        stored = locate(kind, name)
        return _explain_unusable(kind, stored, stored.state())
    except (ValueError, FileNotFoundError) as error:
        return str(error)


# Called at every job for each loader, and a large vocabulary takes a second to read.
@functools.lru_cache(maxsize=32)
def _explain_unusable(kind: ModelKind, stored: Stored, state: tuple) -> str | None:
    problem = next(filter(None, map(explain_unreadable, stored.files)), None)
    if problem is None:
        try:
            with reading_model(stored):
                CHECKS[kind](stored)
        except (ValueError, FileNotFoundError) as error:
            problem = str(error)
    return problem
