"""L_{t-1} from the error of the predicted noise, with the constant that is often dropped. Ho et al. 2020, eq. 8 and 12.

    L_{t-1} = ||mu_tilde - mu_theta||^2 / (2 sigma_t^2) + C,   C = (r - 1 - log r) / 2,   r = beta_tilde_t / sigma_t^2
    ||mu_tilde - mu_theta||^2 = beta_t^2 / (alpha_t (1 - alpha_bar_t)) ||eps - eps_hat||^2

It is the same number as the KL of both Gaussians (`bound` takes that one, in float64, since clipping acts on x_0_hat),
but in this form nothing cancels, so float32 is enough to train on it. t is in 2..T: at t = 1 the term is L_0.
"""

from torch import Tensor

from diffusion.process.reverse import Variance, reverse_variance
from diffusion.process.schedule import NoiseSchedule, at


def bound_weight(s: NoiseSchedule, variance: Variance | str = Variance.SMALL) -> Tensor:
    """beta_t^2 / (2 sigma_t^2 alpha_t (1 - alpha_bar_t)), (T + 1,) float64: what the bound multiplies
    ||eps - eps_hat||^2 by. Ho et al. 2020, eq. 12. 0 at index 0; at zero SNR the inverse of next to nothing."""
    s = s.above_zero_snr()
    weight = s.beta**2 / (2 * reverse_variance(s, variance) * s.alpha * s.one_minus_alpha_bar)
    weight[:1].zero_()  # not `weight[0] = 0`, for which the host would wait on a GPU
    return weight


def step_kl(s: NoiseSchedule, t: Tensor, eps_error: Tensor, v: Tensor | float) -> Tensor:
    """L_{t-1} = KL(q(x_{t-1} | x_t, x_0) || p_theta(x_{t-1} | x_t)) elementwise, in nats.

    Args:
        t: LongTensor (N,) in 2..T; at t = 1 the result has no meaning.
        eps_error: (N, C, H, W): (eps - eps_hat)^2.
        v: where sigma_t^2 lies between the fixed variances on the scale of logarithms (Nichol & Dhariwal 2021, eq.
            15): (N, C, H, W), or 0 for the small and 1 for the large one.
    """
    apart = s.beta.log() - reverse_variance(s, Variance.SMALL).log()  # log(beta_t / beta_tilde_t)
    apart[:1].zero_()
    minus_log_r = at(apart, t, eps_error) * v
    r = (-minus_log_r).exp()
    return at(bound_weight(s), t, eps_error) * r * eps_error + 0.5 * ((-minus_log_r).expm1() + minus_log_r)
