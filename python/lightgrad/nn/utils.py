"""Gradient clipping; layers that become one for evaluation."""

from lightgrad._core.nn.utils import clip_grad_norm_, clip_grad_value_, fuse_conv_bn_eval

__all__ = ["clip_grad_norm_", "clip_grad_value_", "fuse_conv_bn_eval"]
