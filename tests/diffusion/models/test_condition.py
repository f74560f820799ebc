"""Time and label as the residual blocks are told them. (What is refused: test_unet.py.)"""

import torch

from diffusion.models.condition import Condition


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
