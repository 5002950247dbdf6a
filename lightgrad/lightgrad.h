// lightgrad.h: the one header that users need.
#pragma once

#include "lightgrad/autograd/function.h"
#include "lightgrad/autograd/gradcheck.h"
#include "lightgrad/autograd/node.h"
#include "lightgrad/base/error.h"
#include "lightgrad/base/parallel.h"
#include "lightgrad/base/random.h"
#include "lightgrad/data/text.h"
#include "lightgrad/io/checkpoint.h"
#include "lightgrad/io/safetensors.h"
#include "lightgrad/nn/nn.h"
#include "lightgrad/ops/creation.h"
#include "lightgrad/ops/indexing.h"
#include "lightgrad/ops/ops.h"
#include "lightgrad/optim/optim.h"
#include "lightgrad/profile/profile.h"
#include "lightgrad/tensor/tensor.h"
