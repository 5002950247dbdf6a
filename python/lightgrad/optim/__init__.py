"""Optimizers, and schedules of their learning rates in lightgrad.optim.lr_scheduler."""

from lightgrad._core.optim import SGD, Adam, AdamW, Optimizer, ParameterGroup
from lightgrad.optim import lr_scheduler

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "ParameterGroup", "lr_scheduler"]
