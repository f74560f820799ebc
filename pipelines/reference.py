"""Stage `reference`: the features in which samples are compared with data, of the training images and held-out ones.

Once per data set: in the features of a small classifier trained on the labels, of fixed random convolutions where there
are none, of Inception or of CLIP. The distance is called `fd_classifier`, `fd_random`, `fid` or `fd_clip`; FID means
Inception's features alone.
"""


def main() -> None:
    """Make the reference for the prepared images and leave it in results/reference/."""
    from pipelines.cluster.code import code_tags
    from pipelines.measure.features import by_size
    from pipelines.measure.reference import CARD, write_reference
    from pipelines.measure.referencing import make_reference
    from pipelines.params import load_params
    from pipelines.project import results
    from pipelines.settings import load_settings
    from pipelines.stage import outputs
    from pipelines.tracking.machine import work
    from pipelines.tracking.run import stage_run

    params, settings = load_params(), load_settings()
    final = results("reference")
    with work() as done, outputs(final) as folder:
        reference = make_reference(results("prepare"), params.reference, by_size(settings))
        write_reference(folder, reference)
    card = reference.card
    with stage_run("reference", params, settings, key=card.extractor_digest) as tracker:
        tracker.work("reference", done)
        tracker.tags({"data.digest": card.data_digest, "extractor": card.extractor})
        tracker.tags({"extractor.digest": card.extractor_digest} | code_tags(settings))
        if card.val_accuracy is not None:
            tracker.metrics(0, {"reference/val_accuracy": card.val_accuracy})
        tracker.artifact(final / CARD)
    print(card.summary())


if __name__ == "__main__":
    from pipelines.remote.stage import run_stage

    run_stage(main)
