"""The samplers by name, with options that are plain values."""

from collections.abc import Callable
from inspect import signature

from diffusion.process.reverse import Variance
from diffusion.samplers.ancestral import Ancestral
from diffusion.samplers.ddim import DDIM
from diffusion.samplers.dpm_solver import DPMSolver
from diffusion.samplers.euler import Euler
from diffusion.samplers.euler_maruyama import EulerMaruyama
from diffusion.samplers.heun import Heun
from diffusion.samplers.loop import Sampler
from diffusion.samplers.predictor_corrector import PredictorCorrector
from diffusion.samplers.probability_flow import ProbabilityFlow
from diffusion.samplers.unipc import UniPC


def _predictor_corrector(
    variance: Variance | str = Variance.SMALL, snr: float = 0.16, corrections: int = 1
) -> PredictorCorrector:
    """With the ancestral sampler of this variance as predictor."""
    return PredictorCorrector(Ancestral(variance), snr, corrections)


def _probability_flow(tolerance: float = 1e-5) -> ProbabilityFlow:
    """The same tolerance, relative and absolute."""
    return ProbabilityFlow(tolerance, tolerance)


SAMPLERS: dict[str, Callable[..., Sampler]] = {
    "ancestral": Ancestral,
    "ddim": DDIM,
    "dpm_solver": DPMSolver,
    "euler": Euler,
    "euler_maruyama": EulerMaruyama,
    "heun": Heun,
    "predictor_corrector": _predictor_corrector,
    "probability_flow": _probability_flow,
    "unipc": UniPC,
}
"""Each is made without arguments, too."""


def options_of(name: str) -> list[str]:
    """The options of the sampler `name`.

    Raises:
        ValueError: there is none of this name.
    """
    if name not in SAMPLERS:
        raise ValueError(f"sampler must be one of {', '.join(SAMPLERS)}, got {name!r}")
    return list(signature(SAMPLERS[name]).parameters)


def make_sampler(name: str, **options: float | int | str) -> Sampler:
    """The sampler `name`, for example make_sampler("ddim", eta=0.5).

    Raises:
        ValueError: there is none of this name, it has no such option, or the option is out of range.
    """
    own = options_of(name)
    if foreign := sorted(set(options) - set(own)):
        has = f"its options are {', '.join(own)}" if own else "it has no options"
        raise ValueError(f"{name} has no option {foreign[0]!r}: {has}")
    return SAMPLERS[name](**options)
