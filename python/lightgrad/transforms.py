"""What is done to images on their way into a batch: uint8 or float32, [c, h, w] or [n, c, h, w].

    transform = lg.transforms.Compose([
        lg.transforms.RandomCrop(32, padding=4), lg.transforms.RandomHorizontalFlip(),
        lg.transforms.ToFloat(), lg.transforms.Normalize(mean, std)])

Random ones depend on the loader's seed, the epoch and the sample's number, and on nothing else. Over bytes, this list
(with Cutout at its end, if wanted) runs in one pass.
"""

from lightgrad._core.data.transforms import Compose, Cutout, Normalize, RandomCrop, RandomHorizontalFlip, ToFloat

ToTensor = ToFloat  # torchvision's name

__all__ = ["Compose", "Cutout", "Normalize", "RandomCrop", "RandomHorizontalFlip", "ToFloat", "ToTensor"]
