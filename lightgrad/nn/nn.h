// nn.h: the whole room.
#pragma once

#include "lightgrad/nn/activations.h"
#include "lightgrad/nn/attention.h"
#include "lightgrad/nn/containers.h"
#include "lightgrad/nn/convolution.h"
#include "lightgrad/nn/fusion.h"
#include "lightgrad/nn/init.h"
#include "lightgrad/nn/layers.h"
#include "lightgrad/nn/losses.h"
#include "lightgrad/nn/members.h"
#include "lightgrad/nn/module.h"
#include "lightgrad/nn/normalization.h"
#include "lightgrad/nn/pooling.h"
#include "lightgrad/nn/summary.h"
#include "lightgrad/nn/utils.h"
