// Dropout, the sum with a residual and the layer or RMS norm behind it, for one instruction set: the rows are done in
// tiles that stay in the cache from one step to the next, so that each tensor crosses the memory once. Compiled as
// random.cpp is, so that the sum has the bits that dropout alone would give.
#include "random_elements.h"
#include "rows.h"

namespace {

using levelhead::DropoutNorm;

constexpr int64_t TILE = 16384;  // elements: a tile of the sum takes an eighth of a cache of 512 KB

// f(first, last) for the tiles of thread k of `threads`.
template <class Each> LH_INLINE void each_tile(const Task& t, int64_t k, Each f) {
    const int64_t end = t.n * (k + 1) / t.threads, rows = TILE / t.l > 1 ? TILE / t.l : 1;
    for (int64_t r = t.n * k / t.threads; r < end; r += rows) f(r, r + rows < end ? r + rows : end);
}

template <class T> bool dropout_norm_forward(const DropoutNorm& t) {
    const Philox philox(t.dropout.seed, t.dropout.stream);
    const Residual<T> use(t.dropout);
#pragma omp parallel for schedule(static, 1) num_threads(t.norm.threads)
    for (int k = 0; k < t.norm.threads; ++k)
        each_tile(t.norm, k, [&](int64_t first, int64_t last) {
            range<T, false>(t.dropout, use, philox, first * t.norm.l, last * t.norm.l);
            rows_forward_of<T, Identity>(t.norm, first, last);
        });
    return true;
}

// to += from, element by element.
template <class T> LH_INLINE void add(T* to, const T* from, int64_t n) {
    using A = Wide<T>;
    constexpr int width = Lanes<A>::width;
    int64_t i = 0;
    for (; i + width <= n; i += width) store(to + i, load(to + i, Full{}) + load(from + i, Full{}), Full{});
    if (i < n) store(to + i, load(to + i, Part{int(n - i)}) + load(from + i, Part{int(n - i)}), Part{int(n - i)});
}

// The norm's dx is the gradient of the sum, to which that of the sum's other uses is added; the dropout's y is that
// gradient, masked.
template <class T> bool dropout_norm_backward(const DropoutNorm& t) {
    const Task& norm = t.norm;
    const Philox philox(t.dropout.seed, t.dropout.stream);
    const Plain use(t.dropout);
    T* gradient = static_cast<T*>(norm.dx);
    const T* other = static_cast<const T*>(t.dsum);
    const bool streamed = streams(static_cast<const T*>(t.dropout.y), norm.n * norm.l, norm.l);
    ThreadSums<Wide<T>> sums{norm};
    if (!sums.made()) return false;
#pragma omp parallel for schedule(static, 1) num_threads(norm.threads)
    for (int k = 0; k < norm.threads; ++k) {
        each_tile(norm, k, [&](int64_t first, int64_t last) {
            rows_backward_of<T, Identity>(norm, first, last, sums.of(k), sums.summed, false);
            const int64_t begin = first * norm.l, end = last * norm.l;
            if (other) add(gradient + begin, other + begin, end - begin);
            if (streamed) range<T, true>(t.dropout, use, philox, begin, end);
            else range<T, false>(t.dropout, use, philox, begin, end);
        });
        end_of_stream();
    }
    sums.add_up();
    return true;
}

template <class T> bool dropout_norm_of(const DropoutNorm& t) {
    return t.norm.dy ? dropout_norm_backward<T>(t) : dropout_norm_forward<T>(t);
}

}  // namespace

bool levelhead::LEVELHEAD_ISA::dropout_norm(const DropoutNorm& t) {
    switch (t.norm.type) {
        case FLOAT32: return dropout_norm_of<float>(t);
        case FLOAT64: return dropout_norm_of<double>(t);
        case BFLOAT16: return dropout_norm_of<bfloat16>(t);
        default: return dropout_norm_of<float16>(t);
    }
}
