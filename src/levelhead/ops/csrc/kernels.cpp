// The kernels of one instruction set: compiled once for each, with LEVELHEAD_ISA its name.
#include "columns.h"

namespace {

using levelhead::Task;

template <template <class, class> class Kernel, class T> bool by_activation(const Task& t) {
    if constexpr (Kernel<T, Identity>::is_backward) {
        if (t.from_output && t.activation == levelhead::ELU) return Kernel<T, FromElu>::run(t);
        if (t.from_output) return Kernel<T, FromLinear>::run(t);
    }
    if (t.mask) return Kernel<T, Masked>::run(t);
    if (t.activation == levelhead::IDENTITY) return Kernel<T, Identity>::run(t);
    if (t.activation == levelhead::RELU) return Kernel<T, Relu>::run(t);
    return Kernel<T, Other>::run(t);
}

template <template <class, class> class Kernel> bool by_type(const Task& t) {
    switch (t.type) {
        case levelhead::FLOAT32: return by_activation<Kernel, float>(t);
        case levelhead::FLOAT64: return by_activation<Kernel, double>(t);
        case levelhead::BFLOAT16: return by_activation<Kernel, bfloat16>(t);
        default: return by_activation<Kernel, float16>(t);
    }
}

template <class T, class Act> struct Forward {
    static constexpr bool is_backward = false;
    static bool run(const Task& t) {
        if (t.layout == levelhead::PLANES) return planes_forward<T, Act>(t);
        if constexpr (Act::masked) return rows_forward<T, Act>(t);
        else return t.layout == levelhead::COLUMNS ? columns_forward<T, Act>(t) : rows_forward<T, Act>(t);
    }
};

template <class T, class Act> struct Backward {
    static constexpr bool is_backward = true;
    static bool run(const Task& t) {
        if (t.layout == levelhead::PLANES) return planes_backward<T, Act>(t);
        if constexpr (Act::from_output) return columns_backward<T, Act>(t);
        else if constexpr (Act::masked) return rows_backward<T, Act>(t);
        else return t.layout == levelhead::COLUMNS ? columns_backward<T, Act>(t) : rows_backward<T, Act>(t);
    }
};

}  // namespace

levelhead::Kernels levelhead::LEVELHEAD_ISA::kernels() { return {by_type<Forward>, by_type<Backward>}; }
