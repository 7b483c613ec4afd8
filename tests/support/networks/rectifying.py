"""Ways to write a rectifier, other nonlinearities, and a network of two convolutions that has one of them."""

import torch
import torch.nn.functional as F
from torch import nn


def assigned(values):
    copy = values * 1
    copy[copy < 0] = 0
    return copy


def cloned(values):
    copy = values.clone()
    copy[copy <= 0] = 0.0
    return copy


class InPlace(nn.Module):
    """An in-place rectifier that is made inside forward."""

    def forward(self, values):
        return nn.ReLU(inplace=True)(values * 1)


class Function(torch.autograd.Function):
    """A rectifier with its own derivative."""

    @staticmethod
    def forward(context, values):
        context.save_for_backward(values)
        return values.clamp(min=0)

    @staticmethod
    def backward(context, signal):
        return signal * (context.saved_tensors[0] > 0)


class Spike(Function):
    """A step with the derivative of something else, as spiking networks have it."""

    @staticmethod
    def forward(context, values):
        context.save_for_backward(values)
        return (values >= 0).to(values)

    @staticmethod
    def backward(context, signal):
        (values,) = context.saved_tensors
        return signal / (1 + 3 * values.abs()) ** 2


class Swish(Function):
    """Of which no rule is known."""

    @staticmethod
    def forward(context, values):
        context.save_for_backward(values)
        return values * torch.sigmoid(values)

    @staticmethod
    def backward(context, signal):
        (values,) = context.saved_tensors
        share = torch.sigmoid(values)
        return signal * share * (1 + values * (1 - share))


WAYS = {
    "F.relu": F.relu,
    "F.relu in place": lambda z: F.relu(z * 1, inplace=True),
    "nn.ReLU in place": nn.ReLU(inplace=True),
    "made in forward": InPlace(),
    "method": lambda z: z.relu(),
    "method in place": lambda z: (z * 1).relu_(),
    "torch.relu": torch.relu,
    "clamp": lambda z: z.clamp(min=0),
    "clamp of a tensor": lambda z: torch.clamp(z, min=torch.zeros(1)),
    "clamp_min": lambda z: z.clamp_min(0),
    "clip": lambda z: torch.clip(z, 0),
    "threshold": lambda z: F.threshold(z, 0.0, 0.0),
    "maximum": lambda z: torch.maximum(z, torch.zeros(())),
    "maximum, other way round": lambda z: torch.maximum(torch.zeros(()), z),
    "max": lambda z: torch.max(z, torch.zeros_like(z)),
    "fmax": lambda z: torch.fmax(z, torch.zeros(1)),
    "less minimum": lambda z: z - torch.minimum(z, torch.zeros(())),
    "where": lambda z: torch.where(z > 0, z, 0.0),
    "where below": lambda z: torch.where(z < 0, 0.0, z),
    "where with zeros": lambda z: torch.where(z >= 0, z, torch.zeros_like(z)),
    "where with a slope of 0": lambda z: torch.where(z > 0, z, 0 * z),
    "method where": lambda z: z.where(z > 0, torch.zeros(1)),
    "times its sign": lambda z: z * (z > 0),
    "its sign times": lambda z: (z > 0) * z,
    "times a float mask": lambda z: z * (z > 0).float(),
    "times in place": lambda z: (z * 1).mul_(z > 0),
    "times heaviside": lambda z: z * torch.heaviside(z.detach(), torch.tensor(0.0)),
    "times its shifted sign": lambda z: z * (z.detach().sign() + 1) / 2,
    "masked_fill": lambda z: z.masked_fill(z < 0, 0),
    "masked_fill in place": lambda z: (z * 1).masked_fill_(z <= 0, 0.0),
    "assigned": assigned,
    "assigned to a clone": cloned,
    "leaky with slope 0": lambda z: F.leaky_relu(z, 0.0),
    "half of its size and itself": lambda z: (z + z.abs()) / 2,
    "plus what is below": lambda z: z + F.relu(-z),
    "largest of a stack": lambda z: torch.stack([z, torch.zeros_like(z)]).amax(0),
    "a function of autograd": Function.apply,
    "relu6": F.relu6,
    "hardtanh": lambda z: F.hardtanh(z, 0.0, 9.0),
    "clamp to 1": lambda z: z.clamp(0, 1),
}
NONE = {  # by the name that is said
    "GELU": F.gelu, "SiLU": F.silu, "sigmoid": torch.sigmoid, "tanh": torch.tanh, "leaky ReLU": F.leaky_relu,
    "PReLU": nn.PReLU(4), "PReLU, one slope": nn.PReLU(), "ELU": F.elu, "softplus": F.softplus,
    "hard swish": F.hardswish, "hard sigmoid": F.hardsigmoid, "hard tanh": F.hardtanh, "Mish": F.mish,
    "CELU": lambda z: F.celu(z, 0.5), "log-sigmoid": F.logsigmoid, "softsign": F.softsign, "softshrink": F.softshrink,
    "hardshrink": F.hardshrink, "threshold, not at 0": lambda z: F.threshold(z, 0.1, 0.0), "sin": torch.sin,
    "square": torch.square, "abs": torch.abs, "pow": lambda z: z**2, "exp, logistic": lambda z: z / (1 + (-z).exp()),
    "sigmoid, swish": lambda z: z * torch.sigmoid(z), "sigmoid, in a function": Swish.apply, "sign": torch.sign,
    "clamp, not from 0": lambda z: z.clamp(min=-1), "where": lambda z: torch.where(z > 0, z, 0.1 * z),
    "maximum": lambda z: torch.maximum(z, 0.1 * z), "erf": lambda z: z * (1 + torch.erf(z)),
    "round": torch.round, "mul, of two": lambda z: z * z.flip(-1), "mul, by itself": lambda z: z * z,
    "sign, straight through": lambda z: z + (z.sign() - z).detach(), "GLU": lambda z: F.glu(torch.cat([z, z], 1), 1),
    "a step (gt)": lambda z: (z > 0).to(z), "a step (ge), in a function": Spike.apply,
    "maximum, by channel": lambda z: torch.maximum(z, torch.arange(4.0).view(4, 1, 1)),
}  # fmt: skip


class Net(nn.Module):
    """Convolution, one of them, convolution, rectifier, mean over the map."""

    def __init__(self, way):
        super().__init__()
        torch.manual_seed(4)
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.way = way
        self.eval()

    def forward(self, x):
        return torch.relu(self.conv2(self.way(self.conv1(x)))).mean((2, 3))
