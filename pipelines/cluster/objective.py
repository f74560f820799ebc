"""What a run minimises, from its parameters: the loss, its weighting, and how times are drawn."""

from __future__ import annotations

import torch

from diffusion.process import P2, SNR, BoundWeight, MinSNR, Plain, Weighting
from diffusion.training.objective import DiffusionLoss
from diffusion.training.times import ImportanceTimes, StratifiedTimes, Times, UniformTimes
from pipelines.build import build_decoder, build_schedule
from pipelines.params import Params


def build_weightings(params: Params) -> dict[str, Weighting]:
    """Every weighting of the loss by its name, with the parameters of this run where they are its."""
    gamma, chosen = params.train.weighting_gamma, params.train.weighting
    return {
        "none": Plain(params.model.predicts),
        "snr": SNR(),
        "min_snr": MinSNR(gamma) if gamma and chosen == "min_snr" else MinSNR(),
        "p2": P2(gamma) if gamma and chosen == "p2" else P2(),
        "bound": BoundWeight(),
    }


def build_loss(params: Params, levels: int, device: torch.device | str = "cpu") -> DiffusionLoss:
    """What training minimises."""
    train = params.train
    return DiffusionLoss(
        schedule=build_schedule(params.process).to(device),
        decoder=build_decoder(train.decoder, levels),
        goal=train.objective,
        weighting=build_weightings(params)[train.weighting],
        target=params.model.predicts,
        learned=params.model.learned_variance,
        hybrid_weight=train.hybrid_weight,
    )


def build_times(params: Params, device: torch.device | str = "cpu") -> Times:
    """How times are drawn in training."""
    T, seed, shards = params.process.T, params.seed, params.train.virtual_shards
    match params.train.times:
        case "uniform":
            return UniformTimes(T, seed)
        case "stratified":
            return StratifiedTimes(T, seed, shards)
        case "importance":
            return ImportanceTimes(T, seed, shards, device)
