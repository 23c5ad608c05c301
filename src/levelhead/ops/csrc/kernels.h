// What the binding and the kernels of every instruction set agree on.
#pragma once

#include <cstdint>

namespace levelhead {

enum Type { FLOAT32, FLOAT64, BFLOAT16, FLOAT16 };
enum Activation { IDENTITY, RELU, LEAKY_RELU, ELU, SILU, GELU, GELU_TANH, SIGMOID, TANH, RELU6, HARDSWISH };

// How x lies in memory, and which values share statistics.
//   PLANES   (n, c, l): contiguous; parameters by c; a set of statistics is a channel (across: over n and l) or one of
//            `groups` groups of channels of one example.
//   COLUMNS  (n, l, c): channels last; parameters by c; sets as for PLANES (across only with n = 1).
//   ROWS     (n, l): a set is a row; parameters by the position in it. c is 1.
enum Layout { PLANES, COLUMNS, ROWS };

// Pointers may be null where the thing is absent. What does not count has no influence and comes out as 0. Parameters and their gradients are of the type that is calculated
// in: double for FLOAT64, else float. x, residual, dy, y, dx and dresidual are of type `type`, all of one layout.
// No output overlaps an input, but where the sets are channels over all examples y may be x.
struct Task {
    int layout, type, activation;
    bool across;       // sets are channels over all examples
    bool center;       // false for RMS norm: the mean is 0
    bool given;        // mean and var are inputs, and constants to the gradient
    bool from_output;  // backward across: x is what the forward pass gave, from which z is recovered (inverse.h)
    int64_t n, c, l, groups;
    double eps;
    const void *x, *residual, *dy, *weight, *bias;
    const uint8_t* mask;         // 0 where a value does not count; like x, which is in PLANES or ROWS then
    double *mean, *var, *count;  // one a set; count only with a mask
    void *y, *dx, *dresidual, *dweight, *dbias;
    int threads;
};

// Forward writes y, mean and var; backward dx and, where wanted, dresidual, dweight and dbias.
// They answer false where memory is short.
struct Kernels {
    bool (*forward)(const Task&);
    bool (*backward)(const Task&);
};

namespace baseline { Kernels kernels(); }
namespace avx2 { Kernels kernels(); }
namespace avx512 { Kernels kernels(); }

}  // namespace levelhead
