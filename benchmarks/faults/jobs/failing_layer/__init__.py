"""A node for the report: a MODEL one of whose layers raises an error at its n-th call."""

import torch

ERRORS = {
    "RuntimeError": RuntimeError,
    "ValueError": ValueError,
    "MemoryError": MemoryError,
    "OutOfMemoryError": torch.OutOfMemoryError,
    "KeyError": KeyError,
    "ZeroDivisionError": ZeroDivisionError,
}
TEXT = "A layer failed, as it was told to."


class FailingLayer:
    """Raises in place of one layer, once it has been called often enough."""

    RETURN_TYPES = ("MODEL",)
    FUNCTION = "fail"
    CATEGORY = "report"

    @classmethod
    def INPUT_TYPES(cls) -> dict:  # noqa: N802 - the host's name
        return {
            "required": {
                "model": ("MODEL",),
                "layer": ("INT", {"default": 0}),
                "call": ("INT", {"default": 1}),
                "error": (list(ERRORS),),
            }
        }

    def fail(self, model: object, layer: int, call: int, error: str) -> tuple[object]:
        calls = 0

        def replaced(given: dict, extra: dict) -> dict:
            nonlocal calls
            calls += 1
            if calls == call:
                raise ERRORS[error](TEXT)
            return extra["original_block"](given)

        model = model.clone()
        model.set_model_patch_replace(replaced, "dit", "double_block", layer)
        return (model,)


NODE_CLASS_MAPPINGS = {"FailingLayer": FailingLayer}
