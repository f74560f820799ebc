"""Time and label as the residual blocks are told them. (What is refused: test_unet.py.)"""

import pytest
import torch

from diffusion.models import UNet
from diffusion.models.condition import Condition
from diffusion.models.digest import content_digest


def test_without_classes_it_is_the_activated_embedding_of_the_time() -> None:
    condition = Condition(4, 6, None)
    t = torch.tensor([1, 500])
    embedding = condition.time(t)
    assert torch.allclose(condition(t, None), embedding * embedding.sigmoid(), atol=1e-6)


def test_with_classes_the_labels_vector_is_added_before_the_activation() -> None:
    condition = Condition(4, 6, 3)
    assert condition.label is not None
    t, y = torch.tensor([1, 500]), torch.tensor([2, 0])
    embedding = condition.time(t) + torch.stack([condition.label.weight[2], condition.label.weight[0]])
    assert torch.allclose(condition(t, y), embedding * embedding.sigmoid(), atol=1e-6)


def test_the_null_label_is_one_vector_more_and_without_it_nothing_changes() -> None:
    torch.manual_seed(0)
    plain = UNet(8, 1, 8, (1,), blocks=1, classes=3)
    after = torch.rand(1)
    torch.manual_seed(0)
    off = UNet(8, 1, 8, (1,), blocks=1, classes=3, null_label=False)
    assert torch.equal(torch.rand(1), after)
    assert content_digest(off.state_dict()) == content_digest(plain.state_dict())
    told = UNet(8, 1, 8, (1,), blocks=1, classes=3, null_label=True)
    assert told.condition.label is not None
    assert told.condition.label.weight.shape == (4, 32)
    x, t = torch.zeros(2, 1, 8, 8), torch.tensor([1, 2])
    told(x, t, torch.tensor([0, 3]))
    with pytest.raises(ValueError, match=r"in 0\.\.3, got 0\.\.4"):
        told(x, t, torch.tensor([0, 4]))
    with pytest.raises(ValueError, match="null_label is of a network with labels"):
        UNet(8, 1, 8, (1,), null_label=True)
