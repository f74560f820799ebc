"""Stage `sample`: images drawn from the trained model on any number of workers, with the same bits on each.

Image i depends on (seed, i) alone. The files appear together when all images are there, or not at all.
"""


def main() -> None:
    """Draw what params.yaml asks for and leave it in results/sample/."""
    from dataclasses import asdict

    from pipelines.cluster.parallel import on_ray
    from pipelines.cluster.session import ray_session
    from pipelines.measure.drawing import Drawing
    from pipelines.measure.model import device_of, find_model
    from pipelines.measure.sampling import CARD, GRID, STRIP, draw_samples, read_samples
    from pipelines.params import load_params
    from pipelines.project import results
    from pipelines.runs.digest import digest
    from pipelines.settings import load_settings
    from pipelines.stage import outputs
    from pipelines.tracking.run import stage_run

    params, settings = load_params(), load_settings()
    model = find_model(results("train"), params.sample.weights, device_of(settings))
    final = results("sample")
    with ray_session(settings), outputs(final) as folder:
        speed = draw_samples(folder, Drawing(model, params.sample, params.seed), on_ray(settings))
    card = asdict(read_samples(final).card)
    with stage_run("sample", params, settings, key=digest(card)) as tracker:
        tracker.tags({"model.digest": model.digest})
        tracker.metrics(0, {"sampling/seconds": speed.seconds, "sampling/images_per_second": speed.images_per_second})
        for name in (CARD, GRID, STRIP):
            tracker.artifact(final / name)
    print(f"{card['count']} samples at {speed.images_per_second:.1f} images/s; look at {final / GRID}")


if __name__ == "__main__":
    from pipelines.stage import run

    run(main)
