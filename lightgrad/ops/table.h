// table.h: THE table. A row per operation: its block and its name in C++ and Python. Everything
// else follows from the rows: functions, kernels, bindings, tests, documentation.
#pragma once

// Blocks in pointwise.inl, by number of inputs.
#define LG_POINTWISE_1(ROW)    \
  ROW(Neg, neg)                \
  ROW(Abs, abs)                \
  ROW(Sign, sign)              \
  ROW(Square, square)          \
  ROW(Sqrt, sqrt)              \
  ROW(Rsqrt, rsqrt)            \
  ROW(Reciprocal, reciprocal)  \
  ROW(Floor, floor)            \
  ROW(Ceil, ceil)              \
  ROW(Round, round)            \
  ROW(Trunc, trunc)            \
  ROW(Exp, exp)                \
  ROW(Expm1, expm1)            \
  ROW(Log, log)                \
  ROW(Log1p, log1p)            \
  ROW(Sin, sin)                \
  ROW(Cos, cos)                \
  ROW(Tanh, tanh)              \
  ROW(Sigmoid, sigmoid)        \
  ROW(Erf, erf)                \
  ROW(NormalCdf, normal_cdf)   \
  ROW(Relu, relu)              \
  ROW(LeakyRelu, leaky_relu)   \
  ROW(Elu, elu)                \
  ROW(GeluErf, gelu_erf)       \
  ROW(GeluTanh, gelu_tanh)     \
  ROW(Silu, silu)              \
  ROW(Softplus, softplus)      \
  ROW(Clamp, clamp)            \
  ROW(LogicalNot, logical_not) \
  ROW(IsNan, isnan)            \
  ROW(IsInf, isinf)            \
  ROW(IsFinite, isfinite)

#define LG_POINTWISE_2(ROW)      \
  ROW(Add, add)                  \
  ROW(Sub, sub)                  \
  ROW(Mul, mul)                  \
  ROW(Div, div)                  \
  ROW(Pow, pow)                  \
  ROW(FloorDivide, floor_divide) \
  ROW(Remainder, remainder)      \
  ROW(Maximum, maximum)          \
  ROW(Minimum, minimum)          \
  ROW(Equal, eq)                 \
  ROW(NotEqual, ne)              \
  ROW(Less, lt)                  \
  ROW(LessEqual, le)             \
  ROW(Greater, gt)               \
  ROW(GreaterEqual, ge)          \
  ROW(LogicalAnd, logical_and)   \
  ROW(LogicalOr, logical_or)     \
  ROW(LogicalXor, logical_xor)

#define LG_POINTWISE_3(ROW) ROW(Where, where)

// Blocks in views.h, reductions.h, selection.h and the heavy operations' own files, by number of
// inputs.
#define LG_STRUCTURAL_1(ROW)                  \
  ROW(Cast, cast)                             \
  ROW(To, to)                                 \
  ROW(Clone, clone)                           \
  ROW(Alias, alias)                           \
  ROW(Contiguous, contiguous)                 \
  ROW(Expand, expand)                         \
  ROW(SumTo, sum_to)                          \
  ROW(Transpose, transpose)                   \
  ROW(Permute, permute)                       \
  ROW(Reshape, reshape)                       \
  ROW(ViewAs, view)                           \
  ROW(Squeeze, squeeze)                       \
  ROW(Unsqueeze, unsqueeze)                   \
  ROW(Flatten, flatten)                       \
  ROW(SliceDim, slice)                        \
  ROW(SliceGrad, slice_grad)                  \
  ROW(Select, select)                         \
  ROW(Narrow, narrow)                         \
  ROW(Flip, flip)                             \
  ROW(Split, split)                           \
  ROW(Chunk, chunk)                           \
  ROW(Unbind, unbind)                         \
  ROW(Sum, sum)                               \
  ROW(Mean, mean)                             \
  ROW(Prod, prod)                             \
  ROW(Amax, amax)                             \
  ROW(Amin, amin)                             \
  ROW(MaxAlong, max_along)                    \
  ROW(MinAlong, min_along)                    \
  ROW(Argmax, argmax)                         \
  ROW(Argmin, argmin)                         \
  ROW(Var, var)                               \
  ROW(Std, std)                               \
  ROW(LogSumExp, logsumexp)                   \
  ROW(Norm, norm)                             \
  ROW(Any, any)                               \
  ROW(All, all)                               \
  ROW(CumSum, cumsum)                         \
  ROW(Tril, tril)                             \
  ROW(Triu, triu)                             \
  ROW(OneHot, one_hot)                        \
  ROW(Argsort, argsort)                       \
  ROW(Sort, sort)                             \
  ROW(TopKIndices, topk_indices)              \
  ROW(TopK, topk)                             \
  ROW(Nonzero, nonzero)                       \
  ROW(Gelu, gelu)                             \
  ROW(SoftmaxRows, softmax_rows)              \
  ROW(LogSoftmaxRows, log_softmax_rows)       \
  ROW(Softmax, softmax)                       \
  ROW(LogSoftmax, log_softmax)                \
  ROW(DropoutMask, dropout_stream)            \
  ROW(Dropout, dropout)                       \
  ROW(MaxPool2dIndices, max_pool2d_indices)   \
  ROW(MaxPool2d, max_pool2d)                  \
  ROW(AvgPool2d, avg_pool2d)                  \
  ROW(AdaptiveAvgPool2d, adaptive_avg_pool2d) \
  ROW(Interpolate, interpolate)               \
  ROW(Pad, pad)

#define LG_STRUCTURAL_2(ROW)                        \
  ROW(BatchedMatmul, bmm)                           \
  ROW(Matmul, matmul)                               \
  ROW(Embedding, embedding)                         \
  ROW(MseLoss, mse_loss)                            \
  ROW(ConvolutionInputGrad, convolution_input_grad) \
  ROW(ConvolutionWeightGrad, convolution_weight_grad)

#define LG_STRUCTURAL_3(ROW)                \
  ROW(MaskedFill, masked_fill)              \
  ROW(Linear, linear)                       \
  ROW(LinearActivation, linear_activation)  \
  ROW(CrossEntropyRows, cross_entropy_rows) \
  ROW(CrossEntropy, cross_entropy)          \
  ROW(NllLoss, nll_loss)                    \
  ROW(Convolution, convolution)             \
  ROW(Conv1d, conv1d)                       \
  ROW(Conv2d, conv2d)                       \
  ROW(ConvTranspose2d, conv_transpose2d)

#define LG_STRUCTURAL_4(ROW)                   \
  ROW(Attention, scaled_dot_product_attention) \
  ROW(BatchNorm, batch_norm_rows)

#define LG_STRUCTURAL_5(ROW) ROW(FusedMlp, fused_mlp)

// The first attribute stands behind the first input, as in PyTorch: gather(x, dim, index).
#define LG_ALONG_2(ROW) \
  ROW(Gather, gather)   \
  ROW(IndexSelect, index_select)
#define LG_ALONG_3(ROW)        \
  ROW(ScatterAdd, scatter_add) \
  ROW(Scatter, scatter)        \
  ROW(IndexAdd, index_add)     \
  ROW(LayerNorm, layer_norm)   \
  ROW(GroupNorm, group_norm)

// Any number of inputs.
#define LG_STRUCTURAL_N(ROW) \
  ROW(Cat, cat)              \
  ROW(Stack, stack)

#define LG_POINTWISE(ROW) LG_POINTWISE_1(ROW) LG_POINTWISE_2(ROW) LG_POINTWISE_3(ROW)
#define LG_STRUCTURAL(ROW) \
  LG_STRUCTURAL_1(ROW)     \
  LG_STRUCTURAL_2(ROW)     \
  LG_STRUCTURAL_3(ROW)     \
  LG_STRUCTURAL_4(ROW)     \
  LG_STRUCTURAL_5(ROW)     \
  LG_ALONG_2(ROW)          \
  LG_ALONG_3(ROW)          \
  LG_STRUCTURAL_N(ROW)
#define LG_OPS(ROW) LG_POINTWISE(ROW) LG_STRUCTURAL(ROW)
