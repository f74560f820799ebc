"""The pictures that the stages leave beside their numbers.

All are PNG files, 1,660 pixels wide (readable at half that width on a page), drawn by matplotlib's Agg without pyplot,
so the same input gives the same bytes on the same versions.
"""

from pipelines.report.pictures.accuracy import accuracy_by_time
from pipelines.report.pictures.bits import bound_shares
from pipelines.report.pictures.curves import bound_per_timestep, loss_curve, schedule_curves
from pipelines.report.pictures.image_bits import bits_per_image
from pipelines.report.pictures.images import data_picture, noising_strip, reverse_strip, sample_grid
from pipelines.report.pictures.terms import terms_over_training
from pipelines.report.pictures.weights import loss_weights

__all__ = [
    "accuracy_by_time",
    "bits_per_image",
    "bound_per_timestep",
    "bound_shares",
    "data_picture",
    "loss_curve",
    "loss_weights",
    "noising_strip",
    "reverse_strip",
    "sample_grid",
    "schedule_curves",
    "terms_over_training",
]
