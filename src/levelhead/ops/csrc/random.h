// Dropout: what the binding and the kernel of every instruction set agree on. docs/dropout.md defines the bits.
#pragma once

#include <cstdint>

#include "kernels.h"

namespace levelhead {

// y = x * noise + offset, where noise is `scale` for what is kept and 0 for what is dropped, and the offset is
// `residual` where there is one, else `shift` for what is kept and `fill` for what is dropped. Without x it counts as 1.
// Element i is kept if half i % 8 of block i / 8 is at least `threshold`. No output overlaps an input.
struct Dropout {
    int type;  // of kernels.h
    int64_t n;
    uint64_t seed, stream;
    int32_t threshold;
    double scale, shift, fill;
    const void *x, *residual;
    void* y;
    int threads;
};

// y = norm(s), s = x * noise + residual: the dropout's y is s, which is the norm's x, of layout ROWS. Backward, with the
// norm's dy: its dx is the gradient of s, which is the dropout's x, and the dropout's y is the gradient of x.
struct DropoutNorm {
    Dropout dropout;
    Task norm;
    const void* dsum;  // the gradient of s by its other uses, or null
};

// dropout_norm answers false where memory is short.
namespace baseline { void dropout(const Dropout&); bool dropout_norm(const DropoutNorm&); }
namespace avx2 { void dropout(const Dropout&); bool dropout_norm(const DropoutNorm&); }
namespace avx512 { void dropout(const Dropout&); bool dropout_norm(const DropoutNorm&); }

}  // namespace levelhead
