"""Explicit Runge-Kutta rules as Butcher tableaus, with what a user should know of each.

They are drawn as in the textbooks (Hairer, Norsett, Wanner, Solving Ordinary Differential Equations
I). The tests hold them, in exact fractions, against every condition of the order they claim.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property


@dataclass(frozen=True)
class ButcherTableau:
    """An explicit Runge-Kutta rule in exact numbers.

    Stage i is taken at the share c[i] of the step, reached by the slopes before it times a[i]; the
    step is the slopes times b. b_embedded: weights of one order less, whose distance from b
    estimates the error; rules that have them choose their own steps. use: when to choose the rule.
    source: where it was published. other_names: elsewhere. Raises ValueError if the numbers are no
    explicit rule.
    """

    order: int
    c: tuple[Fraction, ...]
    a: tuple[tuple[Fraction, ...], ...]
    b: tuple[Fraction, ...]
    b_embedded: tuple[Fraction, ...] | None = None
    use: str = ""
    source: str = ""
    other_names: str = ""

    @classmethod
    def drawn(
        cls, order: int, drawing: str, *, use: str = "", source: str = "", other_names: str = ""
    ) -> "ButcherTableau":
        """From the usual drawing: c left of the bar, a right of it, the weights below."""
        lines = [line.split("|") for line in drawing.strip().splitlines()]
        rows = [(left.strip(), _fractions(right)) for left, right in lines]
        stages = [(Fraction(left), right) for left, right in rows if left]
        weights = [right for left, right in rows if not left]
        embedded = weights[1] if len(weights) > 1 else None
        c, a = zip(*stages, strict=True)
        return cls(order, c, a, weights[0], embedded, use, source, other_names)

    def __post_init__(self) -> None:
        for i, (c, row) in enumerate(zip(self.c, self.a, strict=True)):
            if len(row) != i:
                raise ValueError(f"Stage {i} uses {len(row)} slopes; explicit, it has {i} to use.")
            if sum(row) != c:
                raise ValueError(f"The row of stage {i} sums to {sum(row)}, its c is {c}.")
            if i and c <= 0:
                raise ValueError(f"Stage {i} must lie after the start of the step, its c is {c}.")

    @property
    def stages(self) -> int:
        return len(self.c)

    @property
    def is_adaptive(self) -> bool:
        return self.b_embedded is not None

    @property
    def calls_per_step(self) -> int:
        """Model calls; one fewer than stages where the last slope is the next step's first."""
        hands_on_slope = self.is_adaptive and self.a[-1] == self.b[:-1]
        return self.stages - 1 if hands_on_slope else self.stages

    @property
    def formula(self) -> str:
        """One step of length h of dx/dsigma = v(sigma, x): a line for each slope, then the step."""
        rows = zip(self.c, self.a, strict=True)
        slopes = [
            f"k{i} = v({_plus('sigma', _times_h(c))}, {_plus('x', _slopes_times_h(row))})"
            for i, (c, row) in enumerate(rows, 1)
        ]
        return "\n".join([*slopes, _plus("x", _slopes_times_h(self.b))])

    @property
    def description(self) -> str:
        """Everything that a user should know of the rule, in lines of text."""
        calls = "model call" if self.calls_per_step == 1 else "model calls"
        return (
            f"Order {self.order}, {self.calls_per_step} {calls} a step: {self.use}\n"
            f"Other names: {self.other_names}.\nSource: {self.source}.\n\n"
            f"One step of length h of dx/dsigma = v(sigma, x):\n{self.formula}"
        )

    @cached_property
    def later_stages(self) -> list[tuple[float, list[float]]]:
        """(c, row of a) of each stage after the first, as floats."""
        rows = zip(self.c[1:], self.a[1:], strict=True)
        return [(float(c), [float(w) for w in row]) for c, row in rows]

    @cached_property
    def weights(self) -> list[float]:
        return [float(w) for w in self.b]

    @cached_property
    def error_weights(self) -> list[float]:
        """Slopes times these, times the step: the estimated error of the step."""
        return [float(w - v) for w, v in zip(self.b, self.b_embedded or self.b, strict=True)]


def _fractions(text: str) -> tuple[Fraction, ...]:
    return tuple(Fraction(word) for word in text.split())


def _plus(start: str, change: str) -> str:
    return f"{start} + {change}" if change else start


def _times_h(c: Fraction) -> str:
    return f"{_factor(c)}h" if c else ""


def _slopes_times_h(weights: Sequence[Fraction]) -> str:
    """h (1/4 k1 + 3/4 k2), without the slopes of weight 0."""
    terms = [
        f"{'-' if weight < 0 else '+'} {_factor(abs(weight))}k{i}"
        for i, weight in enumerate(weights, 1)
        if weight
    ]
    return f"h ({' '.join(terms).removeprefix('+ ')})" if terms else ""


def _factor(number: Fraction) -> str:
    return "" if number == 1 else f"{number} "


KUTTA = "Kutta, Beitrag zur näherungsweisen Integration totaler Differentialgleichungen, 1901"

TABLEAUS = {
    "euler": ButcherTableau.drawn(
        1,
        """
        0   |
            | 1
        """,
        use="fast and coarse; good with sigmoid.",
        source="Euler, 1768; the released code",
        other_names="ComfyUI, k-diffusion, torchdiffeq: euler; "
        "diffusers: FlowMatchEulerDiscreteScheduler",
    ),
    "midpoint": ButcherTableau.drawn(
        2,
        """
        0   |
        1/2 | 1/2
            | 0    1
        """,
        use="the released demo's; best with uniform.",
        source="Runge, 1895; the released code, its demo's default",
        other_names="torchdiffeq: midpoint; modified Euler, RK2",
    ),
    "heun": ButcherTableau.drawn(
        2,
        """
        0   |
        1   | 1
            | 1/2  1/2
        """,
        use="second order, goes with sigmoid.",
        source="Heun, 1900; for diffusion Karras et al., arXiv:2206.00364, Algorithm 1",
        other_names="torchdiffeq: heun2; ComfyUI, k-diffusion: heun, whose step to sigma 0 is "
        "Euler's; improved Euler, explicit trapezoidal rule",
    ),
    "ralston": ButcherTableau.drawn(
        2,
        """
        0   |
        2/3 | 2/3
            | 1/4  3/4
        """,
        use="second order, smallest error bound.",
        source="Ralston, Runge-Kutta methods with minimum error bounds, 1962",
        other_names="Ralston's method",
    ),
    "bosh3": ButcherTableau.drawn(
        3,
        """
        0   |
        1/2 | 1/2
        3/4 | 0    3/4
            | 2/9  1/3  4/9
        """,
        use="most exact at 30 model calls, with sigmoid.",
        source="Bogacki and Shampine, A 3(2) pair of Runge-Kutta formulas, 1989",
        other_names="with steps of its own choice torchdiffeq: bosh3; SciPy: RK23; MATLAB: ode23",
    ),
    "rk4": ButcherTableau.drawn(
        4,
        """
        0   |
        1/3 | 1/3
        2/3 | -1/3  1
        1   | 1    -1    1
            | 1/8  3/8  3/8  1/8
        """,
        use="the released code's rk4.",
        source=f"{KUTTA}; the released code",
        other_names="torchdiffeq: rk4; Kutta's 3/8 rule",
    ),
    "rk4_classic": ButcherTableau.drawn(
        4,
        """
        0   |
        1/2 | 1/2
        1/2 | 0    1/2
        1   | 0    0    1
            | 1/6  1/3  1/3  1/6
        """,
        use="the textbooks' rk4, for a fine solution.",
        source=KUTTA,
        other_names="the Runge-Kutta method, RK4",
    ),
    "dopri5": ButcherTableau.drawn(
        5,
        """
        0    |
        1/5  | 1/5
        3/10 | 3/40        9/40
        4/5  | 44/45      -56/15       32/9
        8/9  | 19372/6561 -25360/2187  64448/6561 -212/729
        1    | 9017/3168  -355/33      46732/5247  49/176   -5103/18656
        1    | 35/384      0           500/1113    125/192  -2187/6784     11/84
             | 35/384      0           500/1113    125/192  -2187/6784     11/84     0
             | 5179/57600  0           7571/16695  393/640  -92097/339200  187/2100  1/40
        """,
        use="chooses its own steps until its error is small enough.",
        source="Dormand and Prince, A family of embedded Runge-Kutta formulae, 1980",
        other_names="torchdiffeq: dopri5; SciPy: RK45; MATLAB: ode45",
    ),
}
