"""Steps that skip the layers where the picture hardly changes."""

from comfy_api.latest import io

from ...host.options.step_cache import with_step_cache
from ...lumina.options.step_cache import PARAMETERS, StepCache
from ..inputs import number_input
from ..library import ALIASES, CATEGORY


class StepCacheNode(io.ComfyNode):
    """Lumina-Next TeaCache: reuses what the layers computed in the step before."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LuminaNextTeaCache",
            display_name="Lumina-Next TeaCache",
            category=CATEGORY,
            description="Makes pictures faster: where a step would change little, it reuses what "
            "the layers computed in the step before. With the coefficients that TeaCache's authors "
            "published for Lumina-Next.",
            search_aliases=[*ALIASES, "tea cache", "cache", "speed", "faster", "skip steps"],
            inputs=[
                io.Model.Input("model", tooltip='From "Load Lumina-Next Model".'),
                *[number_input(name, item) for name, item in PARAMETERS.items()],
            ],
            outputs=[io.Model.Output(tooltip="The model with TeaCache.")],
        )

    @classmethod
    def execute(cls, model: object, threshold: float, start: float, end: float) -> io.NodeOutput:
        return io.NodeOutput(with_step_cache(model, StepCache(threshold, start, end)))


NODES = [StepCacheNode]
