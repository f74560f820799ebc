"""The names that others import are there, and are all that the packages show."""

import ast
import importlib

import pytest

NAMES = {
    "diffusion.process": {
        "BoundTerms",
        "DiscretizedGaussian",
        "GaussianDensity",
        "NoiseSchedule",
        "NormalizedLevels",
        "bound",
        "gaussian_kl",
        "q_posterior",
        "q_sample",
        "simple_loss",
        "to_levels",
        "to_unit",
    },
    "diffusion.samplers": {
        "DDIM",
        "SAMPLERS",
        "Ancestral",
        "DPMSolver",
        "Euler",
        "EulerMaruyama",
        "Heun",
        "PredictorCorrector",
        "ProbabilityFlow",
        "Sampler",
        "UniPC",
        "invert",
        "karras",
        "leading",
        "linspaced",
        "sample",
        "trailing",
    },
    "diffusion.models": {"EMA", "Classifier", "UNet"},
    "diffusion.interop": {"Imported", "from_diffusers", "to_diffusers"},
}
"""The public interface: removing or renaming one of these breaks other people's code."""

MEMBERS = {
    "diffusion.process:NoiseSchedule": {"linear", "cosine", "log_snr_linear", "from_betas", "from_log_alpha_bar"},
    "diffusion.process:BoundTerms": {"total"},
}
SCHEDULE = ("T", "beta", "alpha", "alpha_bar", "beta_tilde", "snr", "log_snr", "log_alpha_bar")
TERMS = ("L_T", "L_t", "L_0", "total", "times")


@pytest.mark.parametrize("package", NAMES)
def test_the_public_interface_is_importable(package):
    module = importlib.import_module(package)
    assert {name for name in NAMES[package] if not hasattr(module, name)} == set()


@pytest.mark.parametrize("package", NAMES)
def test_all_is_complete(project, package):
    """`__all__` holds what the package imports for others: no more, no less, each once, in ruff's order."""
    module = importlib.import_module(package)
    statements = project.modules[package].tree.body
    shown = {a.asname or a.name for s in statements if isinstance(s, ast.ImportFrom) for a in s.names}
    assert set(module.__all__) == {name for name in shown if not name.startswith("_")} - {"annotations"}
    assert len(module.__all__) == len(set(module.__all__))
    assert set(module.__all__) >= NAMES[package]
    assert all(hasattr(module, name) for name in module.__all__)


@pytest.mark.parametrize("owner", MEMBERS)
def test_members_are_there(owner):
    package, _, name = owner.partition(":")
    thing = getattr(importlib.import_module(package), name)
    assert {member for member in MEMBERS[owner] if not hasattr(thing, member)} == set()


def test_the_schedules_tables_have_their_names_and_lengths():
    import torch

    from diffusion.process import NoiseSchedule

    schedule = NoiseSchedule.linear(T=10)
    for name in SCHEDULE[1:]:
        table = getattr(schedule, name)
        assert (table.dtype, table.shape) == (torch.float64, (11,)), name
    assert schedule.T == 10


def test_the_bounds_terms_have_their_names_and_shapes():
    import torch

    from diffusion.process import DiscretizedGaussian, NoiseSchedule, bound

    x_0 = torch.zeros(2, 1, 4, 4)
    terms = bound(
        lambda x_t, t: torch.zeros_like(x_t),
        NoiseSchedule.linear(T=10),
        x_0,
        noise=lambda t, shape: torch.zeros(shape),
        variance="small",
        decoder=DiscretizedGaussian(levels=17),
    )
    shapes = {name: tuple(getattr(terms, name).shape) for name in TERMS if name != "times"}
    assert shapes == {"L_T": (2,), "L_t": (2, 9), "L_0": (2,), "total": (2,)}
    assert len(terms.times) == 10
