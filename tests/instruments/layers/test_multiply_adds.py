"""What a network costs, operation by operation, beside numbers written out from the shapes."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from cnnprobe.instruments.layers.multiply_adds import per_image, uncounted
from cnnprobe.instruments.network.tracing import trace


class Forward(nn.Module):
    """A forward that is a function of its parts and the images."""

    def __init__(self, function, part=None, *shape):
        super().__init__()
        self.function = function
        self.part = nn.Parameter(torch.rand(shape)) if shape else part

    def forward(self, images):
        return self.function(self.part, images)


class Multiplying(torch.autograd.Function):
    @staticmethod
    def forward(context, images, weight):
        return images @ weight


@torch.library.custom_op("cnnprobe_tests::mixed", mutates_args=())
def mixed(images: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return images @ weight


@torch.library.custom_op("cnnprobe_tests::halved", mutates_args=())
def halved(images: torch.Tensor) -> torch.Tensor:
    return images / 2


def _deformed(part, images):
    return part(images, images.new_zeros(1, 36, 7, 7))  # two groups of offsets


IMAGE, ROWS = (4, 9, 9), (5, 8)  # (channel, y, x) and (time, number)
COSTS = {
    "deformable": (_deformed, torchvision.ops.DeformConv2d(4, 6, 3, groups=2), (), IMAGE, 7 * 7 * 6 * 2 * 9),
    "aten convolution": (
        lambda w, x: torch.convolution(x, w, None, [2, 2], [0, 0], [1, 1], False, [0, 0], 1),
        *(None, (6, 4, 3, 3), IMAGE, 4 * 4 * 6 * 4 * 9),
    ),
    "aten transposed": (
        lambda w, x: torch.convolution(x, w, None, [2, 2], [0, 0], [1, 1], True, [0, 0], 1),
        *(None, (4, 6, 3, 3), IMAGE, 9 * 9 * 4 * 6 * 9),
    ),
    "conv_tbc": (lambda w, x: torch.conv_tbc(x.transpose(0, 1), w, w[0, 0]), None, (2, 8, 6), ROWS, 4 * 6 * 2 * 8),
    "weight @ image": (lambda w, x: w @ x[0].T, None, (3, 8), ROWS, 3 * 8 * 5),
    "image @ weight": (lambda w, x: x @ w, None, (8, 3), ROWS, 5 * 8 * 3),
    "weight behind": (lambda w, x: x.__rmatmul__(w), None, (3, 5), ROWS, 3 * 5 * 8),
    "matmul": (lambda w, x: torch.matmul(w, x), None, (3, 5), ROWS, 3 * 5 * 8),
    "aten mm": (lambda w, x: torch.ops.aten.mm.default(x[0], w), None, (8, 3), ROWS, 5 * 8 * 3),
    "mv": (lambda w, x: torch.mv(w, x[0, 0]), None, (3, 8), ROWS, 3 * 8),
    "bmm": (lambda w, x: torch.bmm(w, x), None, (1, 3, 5), ROWS, 3 * 5 * 8),
    "dot": (lambda w, x: torch.dot(w, x[0, 0]), None, (8,), ROWS, 8),
    "vecdot": (lambda w, x: torch.linalg.vecdot(x, w), None, (8,), ROWS, 5 * 8),
    "inner": (lambda w, x: torch.inner(x, w), None, (3, 8), ROWS, 5 * 8 * 3),
    "addmm": (lambda w, x: torch.addmm(w[0, :3], x[0], w[:, :3]), None, (8, 4), ROWS, 5 * 8 * 3),
    "addmm_": (lambda w, x: x.new_ones(5, 3).addmm_(x[0], w), None, (8, 3), ROWS, 5 * 8 * 3),
    "addmv": (lambda w, x: torch.addmv(w[:, 0], w, x[0, 0]), None, (3, 8), ROWS, 3 * 8),
    "baddbmm": (lambda w, x: torch.baddbmm(w[:, :1, :1], w, x), None, (1, 3, 5), ROWS, 3 * 5 * 8),
    "addbmm": (lambda w, x: torch.addbmm(w[0, 0, 0], w, x.expand(2, 5, 8)), None, (2, 3, 5), ROWS, 2 * 3 * 5 * 8),
    "tensordot": (lambda w, x: torch.tensordot(x, w, ([1, 2], [0, 2])), None, (4, 3, 9), IMAGE, 4 * 9 * 9 * 3),
    "chain": (lambda w, x: torch.linalg.multi_dot([x[0, 0], w, w.T]), None, (8, 3), ROWS, 8 * 3 + 3 * 8),
    "chain of matrices": (lambda w, x: torch.linalg.multi_dot([w, x[0], x[0].T]), None, (2, 5), ROWS, 2 * 2 * 5 * 8),
    "einsum": (lambda w, x: torch.einsum("bcyx,xk->bcyk", x, w), None, (9, 3), IMAGE, 4 * 9 * 9 * 3),
    "einsum, axes left open": (lambda w, x: torch.einsum("...x, kx", x, w), None, (3, 9), IMAGE, 4 * 9 * 9 * 3),
    "einsum by numbers": (
        lambda w, x: torch.einsum(x, [0, 1, 2], w, [2, 3], [0, 1, 3]),
        *(None, (8, 3), ROWS, 5 * 8 * 3),
    ),
    "einsum of three": (
        lambda w, x: torch.einsum("bti,ij,buj->btu", x, w, x),
        *(None, (8, 8), ROWS, 5 * 8 * 8 + 5 * 8 * 5),
    ),
    "einsum without a sum": (lambda w, x: torch.einsum("bti,i->bti", x, w), None, (8,), ROWS, 0),
    "linear": (lambda w, x: F.linear(x, w), None, (3, 8), ROWS, 5 * 8 * 3),
    "bilinear": (lambda part, x: part(x, x[..., :4]), nn.Bilinear(8, 4, 3), (), ROWS, 5 * 3 * 8 * 4),
    "scaled_dot_product_attention": (
        lambda w, x: F.scaled_dot_product_attention(x, w, w[..., :2]),
        *(None, (1, 7, 8), ROWS, 5 * 7 * 8 + 5 * 7 * 2),
    ),
    "attention of a constant": (
        lambda part, x: part(part.in_proj_weight[None, :2], x, x)[0],
        *(nn.MultiheadAttention(8, 2, batch_first=True), (), ROWS, 2 * 2 * 64 + 2 * 5 * 64 + 2 * 2 * 5 * 8),
    ),
    "attention with other keys": (
        lambda part, x: part(x[0], x[0, :3, :4], x[0, :3, :6])[0],
        *(nn.MultiheadAttention(8, 2, kdim=4, vdim=6), (), ROWS, 2 * 5 * 64 + 3 * 8 * 4 + 3 * 8 * 6 + 2 * 5 * 3 * 8),
    ),
    "a layer of a transformer": (
        lambda part, x: part(x),
        *(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (), ROWS),
        4 * 5 * 64 + 2 * 5 * 5 * 8 + 2 * 5 * 8 * 16,
    ),
    "lstm": (  # two directions, the second layer reads both
        lambda part, x: part(x)[0],
        *(nn.LSTM(8, 6, 2, batch_first=True, bidirectional=True), (), ROWS),
        5 * 2 * (4 * 6 * (8 + 6) + 4 * 6 * (12 + 6)),
    ),
    "lstm with a projection": (
        lambda part, x: part(x)[0],
        *(nn.LSTM(8, 6, batch_first=True, proj_size=3), (), ROWS, 5 * (4 * 6 * (8 + 3) + 3 * 6)),
    ),
    "gru of packed steps": (
        lambda part, x: part(nn.utils.rnn.pack_padded_sequence(x, [4], batch_first=True))[0].data,
        *(nn.GRU(8, 6, batch_first=True), (), ROWS, 4 * 3 * 6 * (8 + 6)),
    ),
    "rnn": (lambda part, x: part(x)[0], nn.RNN(8, 6, batch_first=True), (), ROWS, 5 * 6 * (8 + 6)),
    "lstm cell": (lambda part, x: part(x[:, 0])[0], nn.LSTMCell(8, 6), (), ROWS, 4 * 6 * (8 + 6)),
    "gru cell": (lambda part, x: part(x[0]), nn.GRUCell(8, 6), (), ROWS, 5 * 3 * 6 * (8 + 6)),
    "rnn cell": (lambda part, x: part(x[:, 0]), nn.RNNCell(8, 6), (), ROWS, 6 * (8 + 6)),
    "function of one's own": (lambda w, x: Multiplying.apply(x, w), None, (8, 3), ROWS, 5 * 8 * 3),
}


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("name", COSTS)
def test_sums_of_products_are_counted_wherever_they_are_written(name):
    """F95: all but convolutions, dense layers and products of two images counted as nothing."""
    function, part, weight, size, products = COSTS[name]
    model = Forward(function, part, *weight).eval()
    assert per_image(model, size) == products and not uncounted(trace(model, size))


@pytest.mark.parametrize(
    "function, told",
    [
        (lambda w, x: mixed(x, w), "cnnprobe_tests::mixed"),
        (lambda w, x: torch.ops.cnnprobe_tests.mixed(x, w), "cnnprobe_tests::mixed"),
        (lambda w, x: torch.cdist(x, w) + torch.cdist(x, w), "cdist"),
        (lambda w, x: torch.fft.rfft(x).abs(), "fft_rfft"),
        (lambda w, x: x * torch.from_numpy(x.detach().numpy() @ w.detach().numpy()), "what leaves torch (numpy())"),
        (lambda w, x: torch.func.vmap(lambda one: one @ w)(x), "what cannot be followed from the image to the output"),
    ],
)
def test_sums_of_products_without_a_count_are_named_once(function, told):
    """F95."""
    (name,) = uncounted(trace(Forward(function, None, 8, 8), ROWS))
    assert name.startswith(told)


@pytest.mark.parametrize(
    "function",
    [
        lambda w, x: halved(x),
        lambda w, x: F.layer_norm(x * w + 1, (8,), w).relu().softmax(-1).mean(1),
        lambda w, x: F.interpolate(F.max_pool2d(x[None], 2), scale_factor=2) + F.avg_pool2d(x[None], 1)[..., :4, :],
        lambda w, x: F.grid_sample(x[None], w.view(1, 2, 2, 2), align_corners=False),
        lambda w, x: torch.linalg.norm(x, dim=-1) + torch.fft.fftshift(x).sum(-1),
    ],
)
def test_what_is_not_counted_by_convention_is_not_told(function):
    model = Forward(function, None, 8)
    assert per_image(model, ROWS) == 0 and uncounted(trace(model, ROWS)) == []
