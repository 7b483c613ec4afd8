"""Recurrences on images, whose trajectories are known: a rotation, a decay, and a sequence that is the same for all."""

import torch
from torch import nn

import cnnprobe


class Turning(nn.Module):
    """A linear recurrence x + dt / tau (-x + J x), J = I + omega tau K; its start is read from the image.

    Args:
        speed: omega dt, rad; each of the planes turns by it, the second by half.
        decay: taken away at each step, beside that.
        units: of the state, mixed from two planes by an orthonormal matrix.
        steps: of time.
        step: seconds, or None where the network does not say.
    """

    def __init__(self, speed=0.1, decay=0.0, units=12, steps=30, step=0.02, planes=1, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        width = 2 * planes
        mixed = torch.linalg.qr(torch.randn(units, width, dtype=torch.float64))[0]
        turn = torch.zeros(width, width, dtype=torch.float64)
        for plane in range(planes):
            at = 2 * plane
            turn[at, at + 1], turn[at + 1, at] = -speed / 2**plane, speed / 2**plane
        flow = mixed @ (turn - decay * torch.eye(width, dtype=torch.float64)) @ mixed.T
        self.register_buffer("flow", flow.float())
        self.start = nn.Linear(27, units, bias=False)
        with torch.no_grad():
            self.start.weight.copy_((mixed @ torch.randn(width, 27, dtype=torch.float64)).float())
        self.pool, self.rates, self.steps = nn.AdaptiveAvgPool2d(3), nn.Identity(), steps
        self.cnnprobe = cnnprobe.About(time_step=step) if step else cnnprobe.About()

    def forward(self, images):
        x = self.start(self.pool(images).flatten(1))
        states = [x]
        for _ in range(self.steps - 1):
            states.append(states[-1] + states[-1] @ self.flow.T)
        return self.rates(torch.stack(states, 2))


class InSequence(nn.Module):
    """Units that are active one after the other, whatever the image."""

    def __init__(self, units=12, steps=30):
        super().__init__()
        self.conv, self.rates = nn.Conv2d(3, units, 3), nn.Identity()
        time, peak = torch.arange(float(steps)), torch.linspace(3, steps - 4, units)
        self.register_buffer("bumps", torch.exp(-(time - peak[:, None]).square() / 18))

    def forward(self, images):
        return self.rates(0 * self.conv(images).mean((2, 3))[..., None] + self.bumps)
