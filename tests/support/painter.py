"""A generator whose pictures say what prompt and what seed they were drawn from."""

import torch

from mmreward.generator import Conditioning


class Painter:
    """A picture's red is 10 x the exclamation marks in its prompt, its green the seed."""

    lora_targets = ()
    steps, guidance, fps = 3, 2.0, None
    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self):
        self.network = torch.nn.Identity()
        self.drawn = []

    @property
    def parts(self):
        return {"network": self.network}

    def encode(self, prompts, inputs=()):
        marks = torch.tensor([[10.0 * prompt.count("!")] for prompt in prompts])
        return Conditioning({"marks": marks}, {"marks": marks})

    def noise(self, seeds, steps=None):
        self.drawn.append(list(seeds))
        return torch.tensor(seeds, dtype=torch.float32).reshape(-1, 1)

    def velocity(self, latents, sigma, conditioning, guidance=1.0):
        self.marks = conditioning.given["marks"]
        return torch.zeros_like(latents)

    def sigmas(self, steps):
        return torch.linspace(1, 0, steps + 1)

    def decode(self, latents):
        channels = torch.cat([self.marks, latents, torch.zeros_like(latents)], dim=1)
        return (channels / 255)[:, :, None, None].expand(-1, -1, 2, 2)
