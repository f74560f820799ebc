"""Which trials a sweep has, and what is refused before any starts."""

import math

import pytest

from pipelines.errors import ParamsError, TrainingError
from pipelines.settings import RaySettings, Settings
from pipelines.sweeping.running import Width
from pipelines.sweeping.space import draws, grid, read_axes, trials


def points(*texts, random=None, seed=0):
    axes = read_axes(texts, random=random is not None)
    return grid(axes) if random is None else draws(axes, random, seed)


def test_lists_give_all_combinations():
    assert points("train.learning_rate=1e-3,0.002", "seed=0, 1") == [
        {"train.learning_rate": rate, "seed": seed} for rate in (1e-3, 0.002) for seed in (0, 1)
    ]
    assert points("model.channel_multipliers=[1],[1, 2]") == [
        {"model.channel_multipliers": multipliers} for multipliers in ([1], [1, 2])
    ]
    assert points("prepare.image_size=null,8", "process.schedule=linear") == [
        {"prepare.image_size": size, "process.schedule": "linear"} for size in (None, 8)
    ]


def test_draws_are_a_function_of_seed_key_and_number():
    texts = ("train.learning_rate=log(1e-4,1e-2)", "model.channels=32,64", "sample.steps=int(5,7)")
    many = points(*texts, random=300, seed=1)
    assert points(*texts[::-1], random=20, seed=1) == many[:20]  # more draws add to fewer, in any order of the keys
    assert points(*texts, random=20, seed=2) != many[:20]
    rates = [point["train.learning_rate"] for point in many]
    assert all(1e-4 <= rate <= 1e-2 for rate in rates)
    middle = sum(math.log10(rate) for rate in rates) / len(rates)
    assert abs(middle + 3) < 5 * 2 / math.sqrt(12 * 300)  # uniform in the logarithm, within five standard errors
    assert {point["model.channels"] for point in many} == {32, 64}
    assert {point["sample.steps"] for point in many} == {5, 6, 7}


@pytest.mark.parametrize(
    ("texts", "random", "why"),
    [
        (["seed"], None, "KEY=VALUE"),
        (["seed="], None, "KEY=VALUE"),
        (["seed=log(1,2)"], None, "--random N"),
        (["seed=log(0,2)"], 1, "begin above 0"),
        (["seed=uniform(2,1)"], 1, "smaller number to a larger"),
        (["seed=int(1.5,3)"], 1, "whole numbers"),
        (["seed=log(a,b)"], 1, "two numbers"),
        (["seed=[1"], None, "no list of YAML values"),
        (["seed=0", "seed=1"], None, "more than once"),
    ],
)
def test_what_is_written_otherwise_is_refused(texts, random, why):
    with pytest.raises(ParamsError, match=why):
        points(*texts, random=random)


def test_all_problems_of_all_trials_are_told_at_once():
    with pytest.raises(ParamsError) as error:
        trials(points("train.lerning_rate=0.1,0.2", "train.batch_size=-1,128", "sede=1"))
    text = str(error.value)
    assert "did you mean train.learning_rate?" in text
    assert "did you mean seed?" in text
    assert text.count("train.batch_size:") == 1
    with pytest.raises(ParamsError, match=r"must not exceed process\.T"):
        trials(points("sample.steps=10,5000"))


def test_a_trial_given_twice_runs_once():
    assert [str(trial) for trial in trials(points("seed=0,1,0"))] == ["seed=0", "seed=1"]


@pytest.mark.parametrize(
    ("machine", "ray", "count", "at_once", "width"),
    [
        ((4, 0), {}, 10, None, (1, 4)),
        ((4, 0), {}, 2, None, (2, 2)),
        ((4, 0), {}, 10, 1, (4, 1)),
        ((64, 0), {}, 2, None, (8, 2)),  # no more than the virtual shards
        ((64, 0), {}, 10, None, (4, 10)),
        ((4, 0), {"workers": 2}, 10, None, (2, 2)),
        ((4, 0), {"workers": 2}, 10, 8, (2, 2)),
        ((4, 0), {"workers": 8}, 10, None, (8, 1)),
        ((4, 0), {"cpus_per_worker": 2}, 10, None, (1, 2)),
        ((4, 0), {"address": "head:6379"}, 10, None, (None, 1)),
        ((16, 1), {"gpus_per_worker": 1}, 8, None, (1, 1)),
        ((16, 8), {"gpus_per_worker": 1}, 2, None, (4, 2)),
        ((16, 2), {"gpus_per_worker": 0.4}, 8, None, (1, 4)),  # two on each; Ray gives no part of two
        ((16, 2), {"gpus_per_worker": 0.5, "workers": 3}, 8, None, (3, 1)),
        ((16, 2), {"gpus_per_worker": 1, "workers": (1, 4)}, 8, None, (2, 1)),
    ],
)
def test_trials_times_workers_fit_the_machine(monkeypatch, machine, ray, count, at_once, width):
    monkeypatch.setattr("os.cpu_count", lambda: machine[0])
    monkeypatch.setattr("torch.cuda.device_count", lambda: machine[1])
    assert Width.of(Settings(ray=RaySettings(**ray)), count, at_once, 8) == Width(*width)


@pytest.mark.parametrize(
    "ray", [{"gpus_per_worker": 2}, {"gpus_per_worker": 1, "workers": 2}, {"cpus_per_worker": 5}], ids=str
)
def test_trials_that_can_never_run_are_refused(monkeypatch, ray):
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(TrainingError, match=r"no trial fits this machine: each needs .* Ray has 4 CPU, "):
        Width.of(Settings(ray=RaySettings(**ray)), 8, None, 8)
