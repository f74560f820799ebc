"""From parameters to the objects of the core: the schedule, the architecture, the loss and its parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipelines.errors import ParamsError
from pipelines.params import Params
from pipelines.sections import ModelParams, ProcessParams

if TYPE_CHECKING:
    import torch

    from diffusion.process import Decoder, NoiseSchedule, Weighting
    from diffusion.training.objective import DiffusionLoss
    from diffusion.training.times import Times
    from pipelines.data.manifest import Manifest


def build_schedule(process: ProcessParams) -> NoiseSchedule:
    """The forward process of `process`.

    Raises:
        ParamsError: its values make no schedule.
    """
    from diffusion.process import NoiseSchedule

    p = process
    try:
        match p.schedule:
            case "linear":
                return NoiseSchedule.linear(p.T, p.beta_1, p.beta_T, rescale=p.rescale)
            case "cosine":
                return NoiseSchedule.cosine(p.T)
            case "log_snr":
                return NoiseSchedule.log_snr_linear(p.T, log_snr_max=p.log_snr_max, log_snr_min=p.log_snr_min)
    except ValueError as error:
        raise ParamsError(f"params.yaml: process: {error}") from None


def architecture(model: ModelParams, manifest: Manifest) -> dict[str, Any]:
    """The keyword arguments of `UNet` for the prepared images, as JSON values.

    Raises:
        ParamsError: the network does not fit the images, or needs labels that they do not have.
    """
    from diffusion.models.architecture import Architecture

    channels, height, width = manifest.shape
    if height != width:
        raise ParamsError(f"the images are {height}x{width}, the network wants squares: set prepare.image_size")
    if model.class_conditional and not manifest.classes:
        raise ParamsError("model.class_conditional is true, but the images have no labels: sort them into sub-folders")
    values = model.model_dump(mode="json", exclude={"kind", "class_conditional", "predicts"})
    classes = len(manifest.classes) if model.class_conditional else None
    try:
        return Architecture(**{**values, "image_size": height, "in_channels": channels, "classes": classes}).to_json()
    except ValueError as error:
        raise ParamsError(f"params.yaml: model: {error} (the prepared images are {height}x{width})") from None


def build_decoder(name: str, levels: int) -> Decoder:
    """The decoder of that name, for data with this many grey levels."""
    from diffusion.process import DiscretizedGaussian, GaussianDensity, NormalizedLevels

    match name:
        case "discretized_gaussian":
            return DiscretizedGaussian(levels)
        case "normalized_levels":
            return NormalizedLevels(levels)
        case "gaussian":
            return GaussianDensity()
    raise ValueError(f"unknown decoder {name!r}")


def build_weightings(params: Params) -> dict[str, Weighting]:
    """Every weighting of the loss by its name, with the parameters of this run where they are its."""
    from diffusion.process import P2, SNR, BoundWeight, MinSNR, Plain

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
    from diffusion.training.objective import DiffusionLoss

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
    from diffusion.training.times import ImportanceTimes, StratifiedTimes, UniformTimes

    T, seed, shards = params.process.T, params.seed, params.train.virtual_shards
    match params.train.times:
        case "uniform":
            return UniformTimes(T, seed)
        case "stratified":
            return StratifiedTimes(T, seed, shards)
        case "importance":
            return ImportanceTimes(T, seed, shards, device)
