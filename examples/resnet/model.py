"""Residual networks for small images (He et al. 2015, section 4.2): a 3x3 convolution, three stages of blocks that
each halve the image and double the channels, the mean over what is left, one linear layer. ResNet-20 is width 16 with
three blocks a stage; shortcuts that change the shape are 1x1 convolutions. model.h is the same in C++.
"""

import sys
from pathlib import Path

from lightgrad import nn

sys.path.append(str(Path(__file__).resolve().parents[1]))
from common.program import call_block


def convolution(cin, cout, size, stride):
    """Without the bias, which is of no use as batch_norm follows."""
    return nn.Conv2d(cin, cout, size, stride, padding=size // 2, bias=False)


class Block(nn.Module):
    def __init__(self, cin, cout, stride):
        super().__init__()
        self.conv1 = convolution(cin, cout, 3, stride)
        self.bn1 = nn.BatchNorm2d(cout)
        self.conv2 = convolution(cout, cout, 3, 1)
        self.bn2 = nn.BatchNorm2d(cout)
        same = stride == 1 and cin == cout
        self.shortcut = nn.Sequential(*([] if same else [convolution(cin, cout, 1, stride), nn.BatchNorm2d(cout)]))

    def forward(self, x):
        return self.bn2.relu(self.conv2(self.bn1.relu(self.conv1(x))), self.shortcut(x))


class ResNet(nn.Module):
    def __init__(self, channels=1, width=16, blocks=2, classes=10, checkpoint_activations=False):
        super().__init__()
        self.checkpoint_activations = checkpoint_activations
        self.conv = convolution(channels, width, 3, 1)
        self.bn = nn.BatchNorm2d(width)
        self.stages = nn.Sequential()
        self.fc = nn.Linear(4 * width, classes)
        cin = width
        for stage in range(3):
            for i in range(blocks):
                self.stages.append(Block(cin, width << stage, 2 if stage > 0 and i == 0 else 1))
                cin = width << stage

    def forward(self, x):
        """Images (N, channels, H, W) -> logits (N, classes)."""
        x = self.bn.relu(self.conv(x))
        for block in self.stages:
            x = call_block(block, x, self.checkpoint_activations)
        return self.fc(x.mean((2, 3)))
