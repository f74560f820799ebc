"""How images are drawn, as plain values: they fit into a file, a request or a command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from diffusion.drawing.guidance import Guidance
from diffusion.models.saved import SavedModel
from diffusion.models.saved_classifier import SavedClassifier
from diffusion.process import NoiseSchedule
from diffusion.process.parameterization import check_target
from diffusion.samplers import Sampler, karras, leading, linspaced, make_sampler, trailing

Option = float | int | str

SPACINGS: dict[str, Callable[[NoiseSchedule, int], Sequence[float]]] = {
    "trailing": lambda s, steps: trailing(s.T, steps),
    "leading": lambda s, steps: leading(s.T, steps),
    "linspaced": lambda s, steps: linspaced(s.T, steps),
    "karras": karras,
}
"""The times of a number of steps, by name."""


@dataclass(frozen=True)
class Recipe:
    """A sampler, the times that it visits, and the guidance."""

    sampler: str = "ancestral"
    """One of `diffusion.samplers.SAMPLERS`."""
    steps: int | None = None
    """Times to visit; None: all of T..1, or for `probability_flow`, which chooses its own steps, the two ends."""
    spacing: str = "trailing"
    """One of `SPACINGS`, for fewer steps than T."""
    options: Mapping[str, Option] = field(default_factory=dict)
    """Of the sampler, for example {"eta": 0.5}; see `options_of`."""
    clip_x0: bool = True
    """Clip the predicted image to [-1, 1] at each step."""
    guidance: Guidance = field(default_factory=Guidance)
    """To the class of each image."""

    def __post_init__(self) -> None:
        self.make()
        if self.spacing not in SPACINGS:
            raise ValueError(f"spacing must be one of {', '.join(SPACINGS)}, got {self.spacing!r}")
        if self.steps is None and self.spacing == "karras":
            raise ValueError("Karras' times need a number of steps, and steps is null")

    def make(self) -> Sampler:
        """The sampler.

        Raises:
            ValueError: it is unknown, or an option is none of its own or out of range.
        """
        return make_sampler(self.sampler, **self.options)

    def times(self, s: NoiseSchedule) -> Sequence[float]:
        """The times to visit, decreasing.

        Raises:
            ValueError: more steps than T, or a spacing that does not fit the schedule.
        """
        if self.steps is None:
            if self.sampler != "probability_flow":
                return list(range(s.T, 0, -1))
            return [s.T, s.T - 1, 1] if s.zero_snr else [s.T, 1]  # the step that leaves zero SNR is Euler's
        return SPACINGS[self.spacing](s, self.steps)

    def calls(self, s: NoiseSchedule) -> int | None:
        """Calls of the network; None where the sampler chooses as it goes."""
        return None if self.sampler == "probability_flow" else self.make().calls(len(self.times(s)))

    def check(self, saved: SavedModel, classifier: SavedClassifier | None = None) -> None:
        """Find before anything is drawn what would stop the drawing of this model's images.

        Args:
            classifier: the one that there is.

        Raises:
            ValueError: the times, the sampler, its variance or the guidance do not fit the model.
        """
        self.guidance.check(saved, classifier)
        s = saved.schedule
        first = self.times(s)[0]
        check_target(s, saved.predicts)
        if self.sampler == "euler_maruyama" and s.zero_snr and first == s.T:
            raise ValueError("euler_maruyama does not begin at zero SNR: take `leading` times, or another sampler")
        if self.options.get("variance") == "learned" and not saved.learned_variance:
            raise ValueError("variance is learned, but the network has not learned one: take small or large")
