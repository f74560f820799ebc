"""What tasks open on a machine that does not see the driver's folders: the same, or nothing."""

import os
import shutil
from dataclasses import replace
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffusion.models import Classifier
from diffusion.models.saved_classifier import save_classifier
from diffusion.process import NoiseSchedule
from pipelines.cluster.job import Job
from pipelines.data.manifest import file_sha256
from pipelines.depot import shared as shared_module
from pipelines.depot.shared import share
from pipelines.errors import CheckpointError
from pipelines.measure.drawing import Drawing
from pipelines.measure.features import Workers
from pipelines.measure.model import find_classifier, find_model
from pipelines.measure.pictures import read_picture
from pipelines.measure.pretrained import Pretrained
from pipelines.measure.weights import Pinned, verified
from pipelines.runs.local import LocalStore
from pipelines.sections_of_sampling import SampleParams
from pipelines.settings import Settings
from tests.pipelines.depot.conftest import FILES
from tests.pipelines.stage_inputs import DIGITS, saved_model


@pytest.fixture
def settings(tmp_path):
    """Of a cluster whose machines see the storage only."""
    return Settings(ray={"address": "head:6379"}, storage={"uri": str(tmp_path / "storage")})


def sent(value):
    return ForkingPickler.loads(bytes(ForkingPickler.dumps(value)))


def test_model_and_classifier(tmp_path, settings, cache):
    save_classifier(tmp_path / "classifier", Classifier(10, 8, 1, 8, (1,)), NoiseSchedule.linear(20), 17, {})
    model, guide = find_model(saved_model(tmp_path / "model"), "ema"), find_classifier(tmp_path / "classifier")
    drawing = Drawing(model, SampleParams(count=1), 0, guide)
    there = sent(drawing.shared(settings))
    assert there.model.folder.here() == tmp_path / "model"
    assert not cache.exists()
    for name in ("model", "classifier"):
        shutil.rmtree(tmp_path / name)
    saved_model(tmp_path / "model", scale=0.1)  # another machine may have another one there
    assert there.model.open().digest == model.digest
    assert there.classifier.open().digest == guide.digest
    with pytest.raises(CheckpointError, match="was replaced while it was in use"):
        sent(model).open()


def test_weights_from_elsewhere(tmp_path, settings, cache):
    file = tmp_path / "given.pt"
    file.write_bytes(b"weights" * 1000)
    network = Pretrained("inception", Pinned("inception.pt", "http://127.0.0.1:1/", file_sha256(file)), file)
    assert network.shared(Settings()) == network
    there = sent(network.shared(settings))
    assert there.here == file
    file.unlink()
    before = os.umask(0o002)
    try:
        assert verified(there.here, there.pinned).is_relative_to(cache)
    finally:
        os.umask(before)


def test_the_images_of_a_job(tmp_path, settings, folder, cache):
    job = Job(DIGITS, folder, LocalStore(tmp_path / "run"), "key", 1, 2)
    assert job.here() == job
    there = sent(replace(job, images=share(folder, FILES, settings)))
    assert there.here().prepared == folder
    (folder / "empty").write_bytes(b"more")
    assert there.here().prepared.parent == cache


def test_pictures_travel_with_their_content_to_far_workers(tmp_path):
    path = str(tmp_path / "a.png")
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(path)
    near, far = Workers(None), Workers(None, far=True)
    assert near.carried([path]) == [path]
    [carried] = sent(far.carried([path]))
    picture = read_picture(path)
    Path(path).unlink()
    assert np.array_equal(read_picture(carried), picture)
    pixels = np.zeros((1, 1, 8, 8), np.uint8)
    assert far.carried(pixels) is pixels


def test_much_is_put_with_its_progress(tmp_path, settings, folder, monkeypatch, capsys):
    share(folder, FILES, settings)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(shared_module, "_SHOWN", 1000)
    share(folder, FILES, settings)
    assert capsys.readouterr().err == "", "all of it is there"
    (folder / "deep/er/weights.bin").write_bytes(bytes(3_000_000))
    share(folder, FILES, settings)
    assert "folder to the depot  3/3 MBs" in capsys.readouterr().err
