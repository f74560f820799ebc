"""The samplers by name."""

from collections.abc import Callable

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

SAMPLERS: dict[str, Callable[..., Sampler]] = {
    "ancestral": Ancestral,
    "ddim": DDIM,
    "dpm_solver": DPMSolver,
    "euler": Euler,
    "euler_maruyama": EulerMaruyama,
    "heun": Heun,
    "predictor_corrector": PredictorCorrector,
    "probability_flow": ProbabilityFlow,
    "unipc": UniPC,
}
"""Each is made without arguments, too."""
