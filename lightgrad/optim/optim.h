// optim.h: the whole room.
#pragma once

#include "lightgrad/optim/adam.h"
#include "lightgrad/optim/lr_scheduler.h"
#include "lightgrad/optim/optimizer.h"
#include "lightgrad/optim/sgd.h"
