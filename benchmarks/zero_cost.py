"""Zero-cost scores: what a network with random weights says of itself. Nulls and covariates, never the objective.

Both are computed on the declared lean form: the proxy network without extra branches, quarter width.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from fastvit.config import FastViTConfig
from nas.proxy.net import ProxyNet

PIXELS = 48
IMAGES = 16


def sign_codes(config: FastViTConfig, *, seed: int = 0, images: torch.Tensor | None = None) -> float:
    """Log determinant of how alike the signs of BatchNorm outputs are between images (as NASWOT counts the signs of
    ReLUs; Mellor et al., 2021): higher when the network tells images apart.

    Args:
        images: (B, 3, H, W); None draws normal noise.
    """
    torch.manual_seed(seed)
    net = ProxyNet(config, 8, 0).train()
    x = torch.randn(IMAGES, 3, PIXELS, PIXELS) if images is None else images
    kernel = torch.zeros(len(x), len(x), dtype=torch.float64)

    def add(_module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
        code = (output.flatten(1) > 0).float()
        kernel.add_((code @ code.T + (1 - code) @ (1 - code).T).double())

    hooks = [m.register_forward_hook(add) for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    with torch.no_grad():
        net(x)
    for hook in hooks:
        hook.remove()
    return float(torch.linalg.slogdet(kernel)[1])


def synflow(config: FastViTConfig, *, seed: int = 0) -> float:
    """Log of the sum over weights of |weight * gradient| when all weights are positive and the image is all ones
    (Tanaka et al., 2020)."""
    torch.manual_seed(seed)
    net = ProxyNet(config, 8, 0).double().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.abs_()
    logits, _ = net(torch.ones(1, 3, PIXELS, PIXELS, dtype=torch.float64))
    logits.sum().backward()
    total = sum((p.detach() * p.grad).abs().sum().item() for p in net.parameters() if p.grad is not None)
    return math.log(max(total, 1e-300))
