"""Operations on maps of 8 channels, of many kinds, and networks drawn from them: what stands between two layers."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHANNELS = 8


def _fixed(*shape: int, seed: int = 0) -> Tensor:
    """Return normal numbers that are always the same."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _backwards(length: int) -> Tensor:
    return torch.arange(length - 1, -1, -1)


def _hand_made_border(x: Tensor) -> Tensor:
    canvas = x.new_zeros(*x.shape[:2], x.shape[2] + 2, x.shape[3] + 3)
    canvas[:, :, 1:-1, 2:-1] = x
    return canvas


def _shifted(x: Tensor) -> Tensor:
    """Move part of the channels by a row, as temporal shift modules do."""
    out = torch.zeros_like(x)
    out[:, :2, :-1] = x[:, :2, 1:]
    out[:, 2:4, 1:] = x[:, 2:4, :-1]
    out[:, 4:] = x[:, 4:]
    return out


def _windowed_attention(x: Tensor) -> Tensor:
    side = 4
    x = x[:, :, : x.shape[2] // side * side, : x.shape[3] // side * side]
    cut = x.unflatten(3, (-1, side)).unflatten(2, (-1, side)).permute(0, 2, 4, 3, 5, 1)
    tokens = cut.flatten(3, 4)
    mixed = F.scaled_dot_product_attention(tokens, tokens, tokens)
    return mixed.unflatten(3, (side, side)).permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


def _grid(x: Tensor, how: Tensor) -> Tensor:
    return F.grid_sample(x, F.affine_grid(how, list(x.shape), align_corners=False), align_corners=False)


def _looked_up(x: Tensor) -> Tensor:
    """Sample where the maps themselves say."""
    grid = F.affine_grid(torch.eye(2, 3).expand(len(x), 2, 3), list(x.shape), align_corners=False)
    moved = grid + 0.6 * torch.tanh(4 * x[:, :2].permute(0, 2, 3, 1))
    return F.grid_sample(x, moved, align_corners=False)


def _deformed(x: Tensor) -> Tensor:
    from torchvision.ops import deform_conv2d

    offsets = 5 * torch.tanh(F.conv2d(x, _fixed(18, CHANNELS, 3, 3), padding=1))
    return deform_conv2d(x, offsets, _fixed(CHANNELS, CHANNELS, 3, 3) / 9, padding=1)


def _low_passed(x: Tensor) -> Tensor:
    spectrum = torch.fft.rfft2(x)
    return torch.fft.irfft2(spectrum * torch.linspace(1, 0, spectrum.shape[-1]), s=x.shape[2:])


def _by_place(x: Tensor) -> Tensor:
    rows, columns = torch.meshgrid(torch.arange(x.shape[2]), torch.arange(x.shape[3]), indexing="ij")
    return torch.where((rows + columns) % 3 == 0, x, 0.5 * x)


def _cut_and_weighed(x: Tensor) -> Tensor:
    columns = F.unfold(x, 3, padding=1).transpose(1, 2) @ (_fixed(CHANNELS * 9, CHANNELS) / 9)
    return columns.transpose(1, 2).unflatten(2, x.shape[2:])


def _symmetric(x: Tensor) -> Tensor:
    x = x[..., : min(x.shape[2:]), : min(x.shape[2:])]
    return x + x.transpose(2, 3)


def _own_kernels(x: Tensor) -> Tensor:
    """Convolve each image with kernels made from it."""
    n = len(x)
    kernels = x.mean((2, 3)).reshape(n * CHANNELS, 1, 1, 1) * _fixed(1, 1, 3, 3)
    return F.conv2d(x.reshape(1, n * CHANNELS, *x.shape[2:]), kernels, padding=1, groups=n * CHANNELS).reshape(x.shape)


OPERATIONS = {
    # number by number
    "relu": F.relu,
    "relu_": lambda x: x.relu_(),
    "F.relu(inplace)": lambda x: F.relu(x, inplace=True),
    "gelu": F.gelu,
    "sigmoid": lambda x: 4 * x.sigmoid(),
    "softplus": F.softplus,
    "leaky_relu_": lambda x: F.leaky_relu_(x, 0.3),
    "prelu": lambda x: F.prelu(x, torch.linspace(0.1, 0.4, CHANNELS)),
    "clamp": lambda x: x.clamp(-0.4, 1.2),
    "abs": lambda x: x.abs() - 0.3,
    "mul_.add_": lambda x: x.mul_(1.3).add_(0.2),
    "square": lambda x: x * x,
    "special.erf": lambda x: torch.special.erf(x),
    "special.i0e": lambda x: x * torch.special.i0e(x),
    "lerp": lambda x: torch.lerp(x, x.tanh(), 0.4),
    "addcmul": lambda x: torch.addcmul(x, x, x, value=0.2),
    "where": lambda x: torch.where(x > 0, x, 0.1 * x),
    "masked_fill": lambda x: x.masked_fill(x < -0.2, -0.2),
    "minimum": lambda x: torch.minimum(x, x.flip(1)),
    "detached factor": lambda x: x * x.detach().sigmoid(),
    # with tensors that a network makes by itself
    "new_tensor": lambda x: (x - x.new_tensor(0.45)) / x.new_tensor([0.5] * CHANNELS).view(1, -1, 1, 1),
    "ones_like": lambda x: x + 0.3 * torch.ones_like(x),
    "position map": lambda x: x + torch.linspace(-1, 1, x.shape[3]),
    "position mask": _by_place,
    "hand-made border": _hand_made_border,
    "tril": lambda x: x.tril(2),
    "shifted channels": _shifted,
    "arange channel": lambda x: torch.cat(
        [x[:, 1:], torch.arange(x.shape[2] * 1.0).view(1, 1, -1, 1).expand(len(x), 1, -1, x.shape[3]) / 9], 1
    ),
    # moved
    "flip x": lambda x: x.flip(3),
    "flip y": lambda x: torch.flipud(x.movedim(2, 0)).movedim(0, 2),
    "transpose": lambda x: x.transpose(2, 3),
    "rot90": lambda x: torch.rot90(x, 1, (2, 3)),
    "einsum transpose": lambda x: torch.einsum("nchw->ncwh", x),
    "roll": lambda x: torch.roll(x, (3, -2), (2, 3)),
    "index_select": lambda x: x.index_select(3, _backwards(x.shape[3])),
    "gather": lambda x: x.gather(2, _backwards(x.shape[2]).view(1, 1, -1, 1).expand_as(x)),
    "take_along_dim": lambda x: torch.take_along_dim(x, _backwards(x.shape[3]).view(1, 1, 1, -1), 3),
    "list of places": lambda x: x[:, :, [*range(0, x.shape[2], 2), *range(1, x.shape[2], 2)]],
    "steps": lambda x: x[:, :, 1::2, ::2],
    "crop": lambda x: x[..., 2:-1, 1:-3],
    "narrow": lambda x: x.narrow(2, 1, x.shape[2] - 3),
    "halves changed": lambda x: torch.cat(x.chunk(2, 2)[::-1], 2),
    "rows in reverse": lambda x: torch.cat([x[:, :, row : row + 1] for row in reversed(range(x.shape[2]))], 2),
    "rows stacked": lambda x: torch.stack([x[:, :, row] for row in range(x.shape[2])], 2),
    "mirror beside": lambda x: torch.cat([x[:, :4], x[:, 4:].flip(3)], 1),
    "channel_shuffle": lambda x: F.channel_shuffle(x, 4),
    "pixel_shuffle": lambda x: F.pixel_shuffle(x, 2).repeat(1, 4, 1, 1),
    "pixel_unshuffle": lambda x: F.pixel_unshuffle(x[..., : x.shape[2] // 2 * 2, : x.shape[3] // 2 * 2], 2)[:, ::4],
    "repeat_interleave": lambda x: x.repeat_interleave(2, 3),
    "as_strided": lambda x: x.contiguous().as_strided(x.shape, x.contiguous().stride()),
    "one row for all": lambda x: x + x[:, :, 3:4],
    "plus its transpose": _symmetric,
    # mixed along positions
    "cumsum": lambda x: x.cumsum(3) / 5,
    "cumsum_ backwards": lambda x: x.flip(2).cumsum(2).flip(2) / 5,
    "cumprod": lambda x: torch.cumprod(1 + 0.05 * x, 2),
    "cummax": lambda x: x.cummax(3).values,
    "logcumsumexp": lambda x: x.logcumsumexp(2),
    "sort": lambda x: x.sort(3).values,
    "topk": lambda x: x.topk(x.shape[2] // 2, 2).values,
    "softmax over channels": lambda x: 4 * x.softmax(1),
    "softmax over a row": lambda x: 8 * x.softmax(3),
    "squeeze and excite": lambda x: x * x.mean((2, 3), keepdim=True).sigmoid(),
    "largest as a gate": lambda x: x * F.adaptive_max_pool2d(x, 1).tanh(),
    "minus the mean row": lambda x: x - x.mean(2, keepdim=True),
    "instance_norm": F.instance_norm,
    "group_norm": lambda x: F.group_norm(x, 2),
    "layer_norm of the map": lambda x: F.layer_norm(x, x.shape[1:]),
    "layer_norm of channels": lambda x: F.layer_norm(x.permute(0, 2, 3, 1), (CHANNELS,)).permute(0, 3, 1, 2),
    "normalize": lambda x: 2 * F.normalize(x, dim=1),
    "response norm": lambda x: F.local_response_norm(x, 3, alpha=0.5),
    "fft": _low_passed,
    "axial attention": lambda x: torch.softmax(x.transpose(2, 3) @ x, -1).matmul(x.transpose(2, 3)).transpose(2, 3),
    "windowed attention": _windowed_attention,
    "matmul over channels": lambda x: (x.movedim(1, -1) @ (_fixed(CHANNELS, CHANNELS) / 3)).movedim(-1, 1),
    "einsum over channels": lambda x: torch.einsum("nchw,cd->ndhw", x, _fixed(CHANNELS, CHANNELS) / 3),
    "einsum over rows": lambda x: torch.einsum("nchw,hg->ncgw", x, _fixed(x.shape[2], x.shape[2]) / 4),
    # windows
    "depthwise": lambda x: F.conv2d(x, _fixed(CHANNELS, 1, 5, 3) / 4, padding=(2, 0), groups=CHANNELS),
    "dilated": lambda x: F.conv2d(x, _fixed(CHANNELS, CHANNELS, 3, 3) / 8, stride=(1, 2), padding=2, dilation=2),
    "conv_transpose": lambda x: F.conv_transpose2d(x, _fixed(CHANNELS, CHANNELS, 3, 3) / 6, stride=2, padding=1),
    "sparse conv_transpose": lambda x: F.conv_transpose2d(x, _fixed(CHANNELS, CHANNELS, 1, 2) / 3, stride=(2, 3)),
    "max_pool, ceil": lambda x: F.max_pool2d(x, 3, 2, ceil_mode=True),
    "max_pool, dilated": lambda x: F.max_pool2d(x, 2, 1, dilation=2),
    "avg_pool": lambda x: F.avg_pool2d(x, 3, 2, padding=1, count_include_pad=False),
    "lp_pool": lambda x: F.lp_pool2d(x, 2, 3, 2),
    "adaptive_avg_pool": lambda x: F.adaptive_avg_pool2d(x, (7, 6)),
    "adaptive_max_pool": lambda x: F.adaptive_max_pool2d(x, (5, 9)),
    "replicated border": lambda x: F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1),
    "reflected border": lambda x: F.max_pool2d(F.pad(x, (3, 1, 1, 2), mode="reflect"), 2, 1),
    "circular border": lambda x: F.conv2d(F.pad(x, (2, 2, 2, 2), mode="circular"), _fixed(8, 8, 5, 5) / 14),
    "median of windows": lambda x: x.unfold(2, 3, 1).unfold(3, 3, 1).flatten(4).median(4).values,
    "unfold, weighed": _cut_and_weighed,
    "fold of unfold": lambda x: F.fold(F.unfold(x, 3, padding=1), x.shape[2:], 3, padding=1) / 9,
    "max_unpool": lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2),
    "nearest x 1.5": lambda x: F.interpolate(x, scale_factor=1.5),
    "bilinear x 2": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "bilinear, corners": lambda x: F.interpolate(x, size=(13, 17), mode="bilinear", align_corners=True),
    "bicubic, smooth": lambda x: F.interpolate(x, size=(11, 12), mode="bicubic", antialias=True),
    "area": lambda x: F.interpolate(x, size=(9, 8), mode="area"),
    "grid_sample, turned": lambda x: _grid(x, torch.tensor([[[0.0, 1.0, 0.1], [-1.0, 0.0, 0.0]]]).expand(len(x), 2, 3)),
    "grid_sample, by values": _looked_up,
    "deform_conv2d": _deformed,
    "kernels per image": _own_kernels,
}


class Step(nn.Module):
    """An operation by name."""

    def __init__(self, name: str):
        super().__init__()
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        return OPERATIONS[self.name](x)

    def extra_repr(self) -> str:
        return self.name


class Drawn(nn.Module):
    """A convolution, operations, perhaps with one convolution called after each of them, and a last convolution.

    Args:
        names: of the operations.
        centred: subtract 0.45 of the image first: by no tensor, a tensor made from the image's, or a buffer.
        reused: call one convolution behind every operation.
        joined: add what the operations make to what they got, where shapes fit.
        stride: of the first convolution.
    """

    def __init__(
        self, names: list[str], centred: str = "no", reused: bool = False, joined: bool = False, stride: int = 1
    ):
        super().__init__()
        self.centred, self.reused, self.joined = centred, reused, joined
        self.register_buffer("mean", torch.full((1, 3, 1, 1), 0.45))
        self.first = nn.Conv2d(3, CHANNELS, 3, stride, padding=1)
        self.again = nn.Conv2d(CHANNELS, CHANNELS, (3, 1), padding=(1, 0))
        self.steps = nn.ModuleList(map(Step, names))
        self.last = nn.Conv2d(CHANNELS, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if self.centred != "no":
            x = x - (x.new_tensor(0.45) if self.centred == "new" else self.mean)
        x = self.first(x)
        for step in self.steps:
            before, x = x, step(x.clone() if self.joined else x)
            if self.joined and before.shape == x.shape:
                x = x + before
            x = self.again(x) if self.reused else x
        return self.last(x)

    def extra_repr(self) -> str:
        return f"centred={self.centred}, reused={self.reused}, joined={self.joined}"


def drawn(seed: int) -> tuple[Drawn, tuple[int, int, int]]:
    """Draw a network, in eval mode, and the size (channel, y, x) of its images; every kind in some hundred seeds."""
    random = np.random.default_rng(seed)
    names = list(OPERATIONS)
    while True:
        chosen = [names[seed % len(names)], *random.choice(names, random.integers(0, 3)).tolist()]
        random.shuffle(chosen)
        torch.manual_seed(seed)
        model = Drawn(
            chosen,
            str(random.choice(["no", "new", "buffer"])),
            *(random.random(2) < 0.3).tolist(),
            stride=int(random.integers(1, 3)),
        ).eval()
        for parameter in model.parameters():
            parameter.data *= 1.7
        size = (3, *random.integers(18, 25, 2).tolist())
        try:
            with torch.no_grad():
                made = model(torch.rand(2, *size))
        except (RuntimeError, ValueError, IndexError):  # too small for it by now
            continue
        if made.isfinite().all() and made.abs().max() < 1e3 and made[0, 0].numel() > 1:
            return model, size
