"""The sample stage: the same images on any number of workers, whole outputs or none."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from diffusion.drawing import Drawn
from diffusion.models.saved import load_model
from diffusion.process import to_levels
from diffusion.samplers import DDIM, Ancestral, sample, trailing
from diffusion.training.random import normal_per_image
from pipelines.cluster.parallel import on_ray, serial_map
from pipelines.cluster.session import ray_session
from pipelines.errors import CheckpointError, DataError, PipelineError, TrainingError
from pipelines.measure.drawing import Drawing, draw_fitting
from pipelines.measure.model import find_model
from pipelines.measure.sampling import draw_samples, read_samples
from pipelines.sections_of_sampling import SampleParams
from pipelines.settings import RaySettings, Settings
from pipelines.stage import outputs
from tests.pipelines.stage_inputs import saved_model

HOW = SampleParams(count=20, steps=5, batch_size=8)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """As every worker has it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_model(tmp_path_factory.mktemp("model"))


def drawing(model: Path, how: SampleParams = HOW, seed: int = 0) -> Drawing:
    return Drawing(find_model(model, how.weights), how, seed)


def draw(drawing: Drawing, ids: range) -> Drawn:
    return draw_fitting(drawing, ids).result


def how(**values: object) -> SampleParams:
    return SampleParams.model_validate({**HOW.model_dump(), **values})


def images_of(folder: Path) -> np.ndarray:
    return np.array(read_samples(folder).images)


def backwards(
    function: Callable[..., object], items: Iterable[object], on_done: Callable[[int], None] | None = None
) -> Iterator[tuple[int, object]]:
    """Computes the last item first."""
    results = [(k, function(item)) for k, item in reversed(list(enumerate(items)))]
    for k, result in sorted(results, key=lambda entry: entry[0]):
        if on_done:
            on_done(k)
        yield k, result


def test_the_outputs(model: Path, tmp_path: Path) -> None:
    draw_samples(tmp_path, drawing(model))
    assert {path.name for path in tmp_path.iterdir()} == {"samples.npy", "samples.json", "grid.png", "strip.png"}
    images = images_of(tmp_path)
    assert (images.shape, images.dtype) == ((20, 1, 8, 8), np.uint8)
    assert images.max() <= 16
    assert len(np.unique(images.reshape(20, -1), axis=0)) == 20


def test_the_card(model: Path, tmp_path: Path) -> None:
    draw_samples(tmp_path, drawing(model, seed=3))
    card = read_samples(tmp_path).card
    assert (card.sampler, card.options, card.steps, card.spacing, card.calls) == (
        "ancestral",
        {"variance": "small"},
        5,
        "trailing",
        5,
    )
    assert (card.count, card.shape, card.levels, card.seed) == (20, (1, 8, 8), 17, 3)
    assert card.model_digest == load_model(model).digest


def test_one_and_two_workers_give_the_same_files(model: Path, tmp_path: Path) -> None:
    """Also in this process, and with the batches drawn in another order."""
    with ray_session(Settings(ray=RaySettings(workers=2))):
        mappers = {
            "here": serial_map,
            "backwards": backwards,
            "one": on_ray(Settings(ray=RaySettings(workers=1))),
            "two": on_ray(Settings(ray=RaySettings(workers=2))),
        }
        for name, mapper in mappers.items():
            (tmp_path / name).mkdir()
            draw_samples(tmp_path / name, drawing(model), mapper)
    for path in (tmp_path / "here").iterdir():
        contents = {(tmp_path / name / path.name).read_bytes() for name in mappers}
        assert len(contents) == 1, path.name


def test_an_image_depends_on_seed_and_number_alone(model: Path, tmp_path: Path) -> None:
    """Another batch size changes no more than the rounding of the kernels: at most one grey level, in few pixels."""
    batches = {"8": HOW, "20": how(batch_size=20), "more": how(count=25)}
    for name, params in batches.items():
        (tmp_path / name).mkdir()
        draw_samples(tmp_path / name, drawing(model, params))
    first, second, more = (images_of(tmp_path / name).astype(int) for name in batches)
    assert np.abs(first - second).max() <= 1
    assert (first != second).mean() <= 0.01
    np.testing.assert_array_equal(first[:16], more[:16])


def test_seeds_give_different_images(model: Path) -> None:
    one, two = (draw(drawing(model, seed=seed), range(4)).images for seed in (0, 1))
    assert (one != two).mean() > 0.5


def test_ddim_is_the_samplers_loop_on_the_stated_noise(model: Path) -> None:
    """By hand: x_T from its own stream, no other noise at eta = 0."""
    saved = load_model(model)
    x_T = normal_per_image(0, "sample-x_T", range(4), 0, (1, 8, 8))
    wanted = to_levels(sample(saved.net, saved.schedule, x_T, DDIM(0.0), times=[20, 10]), 17).numpy()
    drawn = draw(drawing(model, how(sampler="ddim", steps=2)), range(4))
    np.testing.assert_array_equal(drawn.images, wanted)


def test_raw_weights_are_other_weights(model: Path) -> None:
    ema, raw = (draw(drawing(model, how(weights=weights)), range(4)).images for weights in ("ema", "raw"))
    assert (ema != raw).any()


def test_classes_take_turns(tmp_path: Path) -> None:
    """Images 0 and 3 of three classes are of class 0: with the other labels they would be other images."""
    conditional = saved_model(tmp_path / "model", classes=3, scale=0.5)
    drawn = draw(drawing(conditional), range(4)).images
    saved = load_model(conditional)
    x_T = normal_per_image(0, "sample-x_T", range(4), 0, (1, 8, 8))

    def by_hand(y: list[int]) -> np.ndarray:
        x_0 = sample(
            partial(saved.net, y=torch.tensor(y)),
            saved.schedule,
            x_T,
            Ancestral(),
            times=trailing(20, 5),
            noise=lambda k, shape: normal_per_image(0, "sample", range(4), k, shape[1:]),
        )
        return to_levels(x_0, 17).numpy()

    np.testing.assert_array_equal(drawn, by_hand([0, 1, 2, 0]))
    assert (drawn != by_hand([1, 2, 0, 1])).any()


def test_the_strip_shows_the_way_from_noise_to_the_samples(model: Path) -> None:
    drawn = draw(drawing(model, how(steps=None)), range(8))
    frames = drawn.frames
    assert frames.times == [20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0]
    np.testing.assert_array_equal(frames.images[-1], drawn.images)
    noise = to_levels(normal_per_image(0, "sample-x_T", range(8), 0, (1, 8, 8)), 17).numpy()
    np.testing.assert_array_equal(frames.images[0], noise)


def test_few_steps_have_few_moments(model: Path) -> None:
    assert draw(drawing(model, how(steps=2)), range(3)).frames.times == [20, 10, 0]
    assert draw(drawing(model), range(8, 16)).frames.times == []


def test_a_model_that_diverges_leaves_nothing_behind(tmp_path: Path) -> None:
    """Its last convolution overflows to infinity; without clipping the images do, too."""
    broken = saved_model(tmp_path / "model", scale=1e37)
    final = tmp_path / "results" / "sample"
    with (
        pytest.raises(TrainingError, match=r"images 0 to 7 with ancestral: .* not finite for image \d+ .* t = \d+"),
        outputs(final) as folder,
    ):
        draw_samples(folder, drawing(broken, how(clip_x0=False)))
    assert not final.exists()
    assert list(final.parent.iterdir()) == []


def test_a_missing_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        find_model(tmp_path, "ema")


def test_a_model_replaced_meanwhile_is_noticed(tmp_path: Path) -> None:
    folder = saved_model(tmp_path / "model")
    before = drawing(folder)
    saved_model(folder, scale=0.1)
    with pytest.raises(CheckpointError, match="replaced while it was in use"):
        draw(before, range(2))


def test_damaged_samples_are_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"samples\.json is missing; run `dvc repro sample`"):
        read_samples(tmp_path)
    draw_samples(tmp_path, drawing(model))
    whole = (tmp_path / "samples.npy").read_bytes()
    (tmp_path / "samples.npy").write_bytes(whole[:-100])
    with pytest.raises(DataError, match="damaged"):
        read_samples(tmp_path)
    (tmp_path / "samples.npy").write_bytes(whole)
    card = json.loads((tmp_path / "samples.json").read_text())
    (tmp_path / "samples.json").write_text(json.dumps({**card, "count": 19}))
    with pytest.raises(DataError, match="not the images that"):
        read_samples(tmp_path)


def test_the_stage_itself_needs_no_gpu(model: Path, tmp_path: Path) -> None:
    """A machine without a GPU hands out tasks for those that have one."""
    far = Drawing(find_model(model, HOW.weights, "cuda"), HOW, 0)

    def elsewhere(
        function: Callable[..., object], items: Iterable[object], on_done: Callable[[int], None] | None = None
    ) -> Iterator[tuple[int, object]]:
        yield from serial_map(partial(draw_fitting, drawing(model)), items, on_done)

    draw_samples(tmp_path, far, elsewhere)
    assert read_samples(tmp_path).card.device == "cuda"


def test_no_room_for_the_images(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(PipelineError, match=r"20 samples need 0 MB in .*: No space left on device; free some space"):
        draw_samples(tmp_path, drawing(model))
