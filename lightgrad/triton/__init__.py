"""LightGrad's Triton kernels. Compiled by tools/build_kernels.py; at run time nobody needs these files, or Triton."""

from .fused_mlp import KERNELS as FUSED_MLP
from .layer_norm import KERNELS as LAYER_NORM
from .matmul import KERNELS as MATMUL
from .pointwise import KERNELS as COPIES

KERNELS = [*FUSED_MLP, *MATMUL, *LAYER_NORM, *COPIES]
