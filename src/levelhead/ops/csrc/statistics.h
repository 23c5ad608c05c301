// Count, mean and M2: what the binding and the kernel of every instruction set agree on.
#pragma once

#include <cstdint>

#include "kernels.h"

namespace levelhead {

// The moments of c channels of x, which may have gaps between examples and between channels.
//   planes   n examples of c planes of l adjacent values: value i of channel k is at example·e + channel·k + i.
//   columns  n rows of c adjacent channels; l and the channel's stride are 1, and the example's stride at least c.
// Where there is no value, the mean is NaN and M2 is 0.
struct Statistics {
    int type;  // of kernels.h
    bool columns;
    bool skip;  // NaN does not count
    int64_t n, c, l;
    int64_t example, channel;  // strides, in values
    const void* x;
    double *count, *mean, *m2;  // one a channel
    int threads;
};

// statistics answers false where memory is short.
namespace baseline { bool statistics(const Statistics&); }
namespace avx2 { bool statistics(const Statistics&); }
namespace avx512 { bool statistics(const Statistics&); }

}  // namespace levelhead
