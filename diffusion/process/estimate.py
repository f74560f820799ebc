"""The variational bound from few calls of the network: an unbiased estimate that knows its own error.

Of the terms of Ho et al. 2020, eq. 5, L_T is a closed form and L_0 is one call. The sum of L_t over i = 2..T is
(T - 1) times their mean over a uniform index, and that mean is taken over stratified ones:

    u_k = (k + U_k) / m,  i_k = 2 + floor(u_k (T - 1)),  sum_i L_i ~ (T - 1) / m sum_k L_{i_k},  k = 0..m - 1

with every U_k uniform in [0, 1). Each L_i is divided by how often its index is expected, as Horvitz & Thompson 1952 do,
so that the part of the sum within any bin of times is unbiased too. Two independent replicates of it are drawn for each
image: their mean is the estimate, and their difference shows how far it may be off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import log

import torch
from torch import Tensor

from diffusion.process.bins import TimeBins, log_snr_bins
from diffusion.process.bound import Measure, Model, prior_kl
from diffusion.process.decoder import Decoder
from diffusion.process.estimated import EstimatedTerms
from diffusion.process.parameterization import Target
from diffusion.process.reverse import Variance
from diffusion.process.schedule import NoiseSchedule

CallNoise = Callable[[int, Tensor, torch.Size], Tensor]
Uniforms = Callable[[int, int], Tensor]


@torch.no_grad()
def estimate_bound(
    model: Model,
    s: NoiseSchedule,
    x_0: Tensor,
    *,
    noise: CallNoise,
    uniforms: Uniforms,
    decoder: Decoder,
    calls: int = 51,
    variance: Variance | str = Variance.SMALL,
    clip_x0: bool = True,
    times: Sequence[int] | None = None,
    y: Tensor | None = None,
    target: Target | str = Target.EPS,
    chunk: int = 128,
    bins: TimeBins | None = None,
) -> EstimatedTerms:
    """The bound of each image, without bias, from `calls` calls of the network instead of T.

    What is not said here is as in `bound`, whose value it estimates: with a noise that is a function of image and time
    exactly that value, and in any case its expectation. The host waits for the device once per call of the model.

    Args:
        x_0: (N, C, H, W) in [-1, 1].
        noise: (k, t, shape of x_0) -> the eps that makes x_t in call k of each image, t a LongTensor (N,) on the CPU:
            the image's time in the full process. Asked once for each k in 0..calls - 1; k = 0 is the one for L_0.
        uniforms: (k, N) -> U, float64 (N,) in [0, 1) on the CPU, which choose the times of call k, independent of each
            other for all images and k. Asked once for each k in 1..calls - 1; the first half makes one replicate. As a
            function of k and of each image's id the estimate of an image does not depend on what is measured with it.
        calls: of the network for each image, an odd number from 3 to less than T: one for L_0, the others in two
            replicates of m = (calls - 1) / 2 strata.
        chunk: rows (image, call) per call of the model; memory depends on it and on N, hardly on `calls`.
        bins: of the chain that is measured: `log_snr_bins(s.respaced(times))`. None puts all times in one.

    Returns:
        Bits per dimension, float64, one row per image.

    Raises:
        ValueError: what `bound` refuses; calls that are even or out of range, bins of another chain, and noise or
            uniforms of the wrong shape.
    """
    if len(x_0) == 0:
        raise ValueError("the bound needs at least one image")
    decoder.check(x_0)
    chain = s.respaced(times).to("cpu")
    m = _strata(calls, chain.T)
    bins = log_snr_bins(chain, 1) if bins is None else _checked(bins, chain)
    N, bits = len(x_0), 1 / (x_0[0].numel() * log(2))
    index = torch.cat([torch.ones(1, N, dtype=torch.int64), _stratified(uniforms, N, m, chain.T)])  # (calls, N)
    rows = index.flatten().to(x_0.device)  # (call, image), call after call
    measure = Measure(model, chain.to(x_0.device), decoder, variance, clip_x0, target)
    labels = None if y is None else y.to(x_0.device)
    nats: list[Tensor] = []
    for ks in _groups(calls, max(1, chunk // N)):
        eps = torch.cat([_noise(noise, k, chain.time[index[k]], x_0) for k in ks])
        seen = measure.rows(x_0, rows[ks.start * N : ks.stop * N], eps, labels, chunk)
        nats.append(torch.cat([measure.terms(part, first=ks.start == 0) for part in seen]))
    L_0, L_t = nats[0], (chain.T - 1) / m * torch.cat(nats[1:]).view(2, m, N)
    replicates = bins.sums(L_t, index[1:].view(2, m, N))
    return EstimatedTerms(prior_kl(measure.s, x_0) * bits, L_0 * bits, replicates * bits, bins, calls)


def _strata(calls: int, T: int) -> int:
    """m of each replicate."""
    if calls < 3 or calls % 2 == 0:
        raise ValueError(
            f"calls must be an odd number of 3 or more, one for L_0 and the others in two equal replicates, got {calls}"
        )
    if calls >= T:
        raise ValueError(f"{calls} calls for each image are not fewer than the {T} of the exact bound: use `bound`")
    return (calls - 1) // 2


def _checked(bins: TimeBins, chain: NoiseSchedule) -> TimeBins:
    if not torch.equal(bins.time, chain.time):
        raise ValueError(
            f"the bins are those of another chain, of {bins.T} steps, and this one has {chain.T} or other times: make "
            "them for the chain that is measured, log_snr_bins(s.respaced(times))"
        )
    return bins


def _stratified(uniforms: Uniforms, N: int, m: int, T: int) -> Tensor:
    """The indices of all calls but the first, (2 m, N) within 2..T."""
    drawn = []
    for k in range(1, 2 * m + 1):
        U = uniforms(k, N).cpu()
        if U.shape != (N,) or U.dtype != torch.float64:
            raise ValueError(f"uniforms must be float64 ({N},), got {U.dtype} {tuple(U.shape)} for call {k}")
        if not 0 <= float(U.min()) <= float(U.max()) < 1:
            raise ValueError(f"uniforms must lie in [0, 1), got {float(U.min())} to {float(U.max())} for call {k}")
        drawn.append((((k - 1) % m + U) / m * (T - 1)).long())
    return 2 + torch.stack(drawn).clamp(max=T - 2)  # for a U so close to 1 that k + U is rounded to k + 1


def _noise(noise: CallNoise, k: int, t: Tensor, x_0: Tensor) -> Tensor:
    eps = noise(k, t, x_0.shape).to(x_0)
    if eps.shape != x_0.shape:
        raise ValueError(f"noise must have the shape of x_0, {tuple(x_0.shape)}, got {tuple(eps.shape)} for call {k}")
    return eps


def _groups(calls: int, size: int) -> Iterator[range]:
    """Call 0, then the others in groups of `size`: L_0 is another formula, so it stands alone."""
    yield range(1)
    for start in range(1, calls, size):
        yield range(start, min(start + size, calls))
