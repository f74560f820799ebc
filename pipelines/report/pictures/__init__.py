"""The pictures that the stages leave beside their numbers.

All are PNG files, 1,660 pixels wide (readable at half that width on a page), drawn by matplotlib's Agg without pyplot,
so the same input gives the same bytes on the same versions.
"""

from pipelines.report.pictures.curves import bound_per_timestep, loss_curve, schedule_curves, validation_curve
from pipelines.report.pictures.images import data_picture, noising_strip, reverse_strip, sample_grid

__all__ = [
    "bound_per_timestep",
    "data_picture",
    "loss_curve",
    "noising_strip",
    "reverse_strip",
    "sample_grid",
    "schedule_curves",
    "validation_curve",
]
