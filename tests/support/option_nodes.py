"""Resolution and context drop by their nodes, and the same pictures by plain torch."""

from lumina_next.lumina.rope import positions, rotation_table
from lumina_next.lumina.rope.scaling import Axis
from lumina_next.tests.support.tiny import CONFIG, euler, plain_model

HEAD_DIM = CONFIG.head_dim
TRAINED_PX = 64  # 4 x 4 tokens; tiny.ksampler's picture of 8 x 6 tokens is beyond that
TRAINED = TRAINED_PX // 16


def resolved(model, method="auto", *, trained=TRAINED_PX, isotropic=False, attention="off", **own):
    from lumina_next.nodes.options.resolution import ResolutionNode

    method = {"method": method, **own}
    return ResolutionNode.execute(model, trained, isotropic, attention, method)[0]


def dropped(model, factor=2, until=1.0, order="first"):
    from lumina_next.nodes.options.context_drop import ContextDropNode

    return ContextDropNode.execute(model, factor, until, order)[0]


def by_hand(model, options):
    """Euler in plain torch; `options(t, height, width)` in tokens gives each call's options."""
    plain = plain_model()

    def velocity(x, t, caption):
        height, width = (side // 2 for side in x.shape[-2:])
        return plain(x, t, caption, options=options(float(t), height, width))

    return euler(velocity, model)


def rotation(scaling, t, height, width, ratios=None):
    ratios = ratios or (height / TRAINED, width / TRAINED)
    rows, columns = (scaling.frequencies(Axis(r, TRAINED, HEAD_DIM, t)) for r in ratios)
    return rotation_table(positions(height, width), (rows, columns))
