"""The few numbers that DVC shows: flat, and the same as in metrics.json."""

from pipelines.cluster.outcome import summary_of as summary_of_training
from pipelines.measure.tables import summary_of as summary_of_evaluation
from tests.pipelines.conftest import evaluation


def test_an_evaluation_in_a_handful_of_numbers():
    assert summary_of_evaluation(evaluation("m", total=2.0, distance=3.5)) == {
        **{"bits_per_dim": 2.0, "bits_per_dim_se": 0.01},
        **{"fd_classifier": 3.5, "fd_classifier_se": 0.1, "fd_classifier_infinity": 1.5},
        **{"precision": 0.75, "recall": 0.5},
    }


def test_a_training_in_a_handful_of_numbers():
    bound = {"L_T": 0.5, "L_t_sum": 1.0, "L_0": 0.5, "total": 2.0, "total_se": 0.1, "L_t_01": 1.0, "card": {"calls": 5}}
    few = {"steps": 10, "parameters": 1234, "loss": 0.25}
    assert summary_of_training(few | {"validation_bits_per_dim": bound}) == {
        **few,
        **{"validation_bits_per_dim": 2.0, "validation_bits_per_dim_se": 0.1},
    }
    assert summary_of_training({"steps": 1, "parameters": 1234}) == {"steps": 1, "parameters": 1234}
