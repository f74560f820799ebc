"""Which times a sampler visits when it takes fewer steps than T. Each list is strictly decreasing within T..1.

The step after the last time of a list goes to the data, t = 0.
"""

from math import log

from diffusion.process.schedule import NoiseSchedule


def trailing(T: int, steps: int) -> list[int]:
    """From T downwards in equal strides: trailing(1000, 10) = [1000, 900, .., 100]. Lin et al. 2024, table 2."""
    _check(T, steps)
    return [(2 * T * (steps - k) + steps) // (2 * steps) for k in range(steps)]  # T (steps - k) / steps, rounded


def leading(T: int, steps: int) -> list[int]:
    """Whole strides of T // steps that end at 1: leading(1000, 10) = [901, 801, .., 1]. It does not begin at T."""
    _check(T, steps)
    return [1 + k * (T // steps) for k in reversed(range(steps))]


def linspaced(T: int, steps: int) -> list[int]:
    """Equally spaced with both ends: linspaced(1000, 4) = [1000, 667, 334, 1]; one step is [T]."""
    _check(T, steps)
    if steps == 1:
        return [T]
    gaps = steps - 1
    return [1 + (2 * (T - 1) * k + gaps) // (2 * gaps) for k in reversed(range(steps))]


def karras(s: NoiseSchedule, steps: int, rho: float = 7.0) -> list[float]:
    """The times, in general between whole ones, of sigma_k = (sigma_T^(1/rho) + k / (n - 1) (sigma_1^(1/rho) -
    sigma_T^(1/rho)))^rho, k = 0 .. n - 1, n = `steps`.

    Karras et al. 2022, eq. 5, with sigma = sqrt((1 - alpha_bar) / alpha_bar): equally spaced in sigma^(1/rho), both
    ends included; one step is [T].

    Raises:
        ValueError: a number of steps outside 1..T, or a schedule that ends at zero SNR, where sigma is infinite.
    """
    _check(s.T, steps)
    if s.zero_snr:
        raise ValueError("Karras' times begin at sigma_T, which is infinite at zero SNR: take `trailing` times")
    log_sigma = -s.log_snr / 2
    high, low = float((log_sigma[-1] / rho).exp()), float((log_sigma[1] / rho).exp())
    shares = [k / max(steps - 1, 1) for k in range(steps)]
    return s.time_at([-2 * rho * log(high + share * (low - high)) for share in shares])


def _check(T: int, steps: int) -> None:
    if not 1 <= steps <= T:
        raise ValueError(f"the number of steps must lie in 1..T = 1..{T}, got {steps}")
