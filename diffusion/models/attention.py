"""Self-attention over the positions of a feature map."""

from torch import Tensor, nn
from torch.nn import functional as F

from diffusion.models.layers import group_norm, silent


class SelfAttention(nn.Module):
    """x + projection of softmax(q k' / sqrt(d)) v, with q, k, v affine in norm(x) at each position.

    Ho, Jain & Abbeel 2020 use one head; with more, the channels are cut into `heads` parts of d = channels / heads that
    attend apart (Vaswani et al. 2017, section 3.2). The projection starts at zero, so the block starts as the identity.
    """

    def __init__(self, channels: int, heads: int = 1) -> None:
        """`heads` divides `channels`."""
        super().__init__()
        if channels % heads:
            raise ValueError(f"{channels} channels cannot be cut into {heads} heads of equal width")
        self.heads = heads
        self.norm = group_norm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.projection = silent(nn.Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        n, c, height, width = x.shape
        positions = self.norm(x).flatten(2).transpose(1, 2)  # (N, P, C): a view if x is channels-last
        qkv = self.qkv(positions).view(n, height * width, 3, self.heads, c // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (N, heads, P, d)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, height * width, c)
        out: Tensor = x + self.projection(attended).transpose(1, 2).reshape(x.shape)
        return out
