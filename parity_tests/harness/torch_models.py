"""Torch models whose weights are carried over: what users bring along."""

import torch
import torch.nn.functional as F
from torch import nn


class TutorialSTN(nn.Module):
    """The network of PyTorch's spatial transformer tutorial, without its dropout."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 10, kernel_size=5)
        self.conv2 = nn.Conv2d(10, 20, kernel_size=5)
        self.fc1 = nn.Linear(320, 50)
        self.fc2 = nn.Linear(50, 10)
        self.localization = nn.Sequential(
            nn.Conv2d(1, 8, kernel_size=7),
            nn.MaxPool2d(2, stride=2),
            nn.ReLU(True),
            nn.Conv2d(8, 10, kernel_size=5),
            nn.MaxPool2d(2, stride=2),
            nn.ReLU(True),
        )
        head = nn.Linear(32, 6)
        nn.init.zeros_(head.weight)
        with torch.no_grad():
            head.bias.copy_(torch.tensor([1.0, 0, 0, 0, 1, 0]))
        self.fc_loc = nn.Sequential(nn.Linear(10 * 3 * 3, 32), nn.ReLU(True), head)

    def theta(self, x):
        features = self.localization(x).view(-1, 10 * 3 * 3)
        return self.fc_loc(features).view(-1, 2, 3)

    def stn(self, x):
        grid = F.affine_grid(self.theta(x), x.size(), align_corners=False)
        return F.grid_sample(x, grid, align_corners=False)

    def forward(self, x):
        x = self.stn(x)
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2(x), 2))
        x = F.relu(self.fc1(x.view(-1, 320)))
        return F.log_softmax(self.fc2(x), dim=1)


class SmallUNet(nn.Module):
    """Two levels down and up with skip connections, and one of each layer that is ported."""

    def __init__(self):
        super().__init__()
        self.down = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU()),
                nn.Sequential(nn.Conv2d(6, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.ReLU()),
            ]
        )
        self.bottom = nn.Conv2d(8, 12, 3, padding=2, dilation=2, groups=2)
        self.classes = nn.Embedding(3, 12)
        self.norm = nn.LayerNorm(12)
        self.up = nn.ModuleList(
            [
                nn.ConvTranspose2d(12, 8, 2, stride=2),
                nn.ConvTranspose2d(8 + 8, 6, 4, stride=2, padding=1, bias=False),
            ]
        )
        self.head = nn.Conv2d(6 + 6, 2, 1)
        self.gain = nn.Parameter(torch.tensor([0.5, 2.0]))
        self.offset: torch.Tensor
        self.register_buffer("offset", torch.tensor([0.1, -0.2]))

    def forward(self, x, label):
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = F.relu(self.bottom(x)) + self.classes(label)[:, :, None, None]
        x = self.norm(x.movedim(1, -1)).movedim(-1, 1)
        for upsample, skip in zip(self.up, reversed(skips), strict=True):
            x = torch.cat([F.relu(upsample(x)), skip], dim=1)
        return self.head(x) * self.gain[:, None, None] + self.offset[:, None, None]
