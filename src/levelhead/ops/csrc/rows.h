// (n, l), contiguous: layer norm and RMS norm, with parameters by position. A thread takes adjacent rows.
#pragma once

#include "planes.h"

namespace {

template <class A, class P> LH_INLINE Vec<A> parameters(const void* values, int64_t i, P part, A otherwise) {
    return values ? load(static_cast<const A*>(values) + i, part) : splat<A>(otherwise);
}

// The sums of one row wait for each other, those of several rows do not: short rows are summed before the first of them is
// normalized, as many as the nearest cache keeps.
constexpr int64_t ROWS_AT_ONCE = 16, VALUES_AT_ONCE = 2048;

// Calls sums(r, k) and then values(r, k) for some rows at a time, the k-th of them.
template <class Sums, class Values>
LH_INLINE void some_rows(int64_t begin, int64_t end, int64_t l, Sums sums, Values values) {
    const int64_t some = l * ROWS_AT_ONCE <= VALUES_AT_ONCE ? ROWS_AT_ONCE : l < VALUES_AT_ONCE ? VALUES_AT_ONCE / l : 1;
    for (int64_t first = begin; first < end; first += some) {
        const int64_t stop = first + some < end ? first + some : end;
        for (int64_t r = first; r < stop; ++r) sums(r, r - first);
        for (int64_t r = first; r < stop; ++r) values(r, r - first);
    }
}

template <class T, class Act> LH_LOOPS void rows_forward_of(Task t, int64_t begin, int64_t end) {
    using A = Wide<T>;
    const Act act(t.activation);
    const bool streamed = streams(static_cast<const T*>(t.y), t.n * t.l, t.l);
    some_rows(begin, end, t.l, [&](int64_t r, int64_t) LH_ATTRIBUTE {
        if (t.given) return;
        const Regions<T> row{static_cast<const T*>(t.x) + r * t.l, 1, t.l, 0};
        const Moments m = moments<Act::masked>(row, t.center, Act::masked ? t.mask + r * t.l : nullptr, t.count + r);
        t.mean[r] = m.mean;
        t.var[r] = m.var;
    }, [&](int64_t r, int64_t) LH_ATTRIBUTE {
        const T* x = static_cast<const T*>(t.x) + r * t.l;
        const T* residual = t.residual ? static_cast<const T*>(t.residual) + r * t.l : nullptr;
        T* y = static_cast<T*>(t.y) + r * t.l;
        const uint8_t* mask = Act::masked ? t.mask + r * t.l : nullptr;
        const Standard<A> standard(t.mean[r], t.var[r], t.eps);
        each_vector<A>(t.l, [&](int64_t i, auto part) LH_ATTRIBUTE {
            Vec<A> u = standard(load(x + i, part));
            if (t.weight) u *= parameters<A>(t.weight, i, part, 1);
            if (t.bias) u += parameters<A>(t.bias, i, part, 0);
            if (residual) u += load(residual + i, part);
            put(y + i, counting<Act::masked, A>(mask, i, act.template value<A>(u), part), part, streamed);
        });
    });
    end_of_stream();
}

template <class T, class Act> bool rows_forward(const Task& t) {
#pragma omp parallel for schedule(static, 1) num_threads(t.threads)
    for (int k = 0; k < t.threads; ++k)
        rows_forward_of<T, Act>(t, t.n * k / t.threads, t.n * (k + 1) / t.threads);
    return true;
}

// Sums by position over rows, for the parameters' gradients: blocks of rows in the calculating type, all in double.
template <class A> struct PositionSums {
    double *g, *gz;
    A *block_g, *block_gz;
};

// Those of all threads, apart from each other; none where no parameter has a gradient.
template <class A> struct ThreadSums {
    const Task& t;
    const bool summed = t.dweight || t.dbias;
    const int64_t step = apart<A>(summed ? t.l : 0);
    Buffer<double> g{step * t.threads}, gz{step * t.threads};
    Buffer<A> block_g{step * t.threads}, block_gz{step * t.threads};

    bool made() const { return g.data && gz.data && block_g.data && block_gz.data; }
    PositionSums<A> of(int64_t k) {
        return {g.data + step * k, gz.data + step * k, block_g.data + step * k, block_gz.data + step * k};
    }
    void add_up() const {
        for (int64_t i = 0; summed && i < t.l; ++i) {
            double sum_g = 0, sum_gz = 0;
            for (int k = 0; k < t.threads; ++k) sum_g += g.data[step * k + i], sum_gz += gz.data[step * k + i];
            if (t.dbias) static_cast<A*>(t.dbias)[i] = A(sum_g);
            if (t.dweight) static_cast<A*>(t.dweight)[i] = A(sum_gz);
        }
    }
};

// `streamed`: dx goes past the caches; not where it is read again.
template <class T, class Act>
LH_LOOPS void rows_backward_of(Task t, int64_t begin, int64_t end, PositionSums<Wide<T>> sums, bool summed,
                               bool streamed) {
    using A = Wide<T>;
    const Act act(t.activation);
    // What both passes over a row need: f(standard, mask, z, g) with z(i, part) the standardized vector at i, and
    // g(i, part, z) its gradient behind the activation.
    auto with_row = [&](int64_t r, auto f) LH_ATTRIBUTE {
        const T *x = static_cast<const T*>(t.x) + r * t.l, *dy = static_cast<const T*>(t.dy) + r * t.l;
        const T* residual = t.residual ? static_cast<const T*>(t.residual) + r * t.l : nullptr;
        const uint8_t* mask = Act::masked ? t.mask + r * t.l : nullptr;
        const Standard<A> standard(t.mean[r], t.var[r], t.eps);
        auto standardized = [&](int64_t i, auto part) LH_ATTRIBUTE {
            return counting<Act::masked, A>(mask, i, standard(load(x + i, part)), part);
        };
        auto gradient = [&](int64_t i, auto part, Vec<A> z) LH_ATTRIBUTE {
            Vec<A> u = z;
            if constexpr (Act::needs_input) {
                if (t.weight) u *= parameters<A>(t.weight, i, part, 1);
                if (t.bias) u += parameters<A>(t.bias, i, part, 0);
                if (residual) u += load(residual + i, part);
            }
            return counting<Act::masked, A>(mask, i, act.template gradient<A>(load(dy + i, part), u), part);
        };
        f(standard, mask, standardized, gradient);
    };
    A mean_g[ROWS_AT_ONCE], mean_gz[ROWS_AT_ONCE];
    some_rows(begin, end, t.l, [&](int64_t r, int64_t k) LH_ATTRIBUTE {
        with_row(r, [&](const auto&, const uint8_t*, auto standardized, auto gradient) LH_ATTRIBUTE {
            TwoSums<A> of_row;
            of_row.add(t.l, [&](int64_t i, auto part, auto& sum, auto& product) LH_ATTRIBUTE {
                Vec<A> z = standardized(i, part);
                Vec<A> dz = gradient(i, part, z);
                if (t.weight) dz *= parameters<A>(t.weight, i, part, 1);
                sum += kept<A>(dz, part);
                product += kept<A>(dz * z, part);
            });
            of_row.flush();
            const double n = Act::masked ? (t.count[r] ? t.count[r] : 1) : double(t.l);
            mean_g[k] = t.given || !t.center ? A(0) : A(of_row.sum1 / n);
            mean_gz[k] = t.given ? A(0) : A(of_row.sum2 / n);
        });
    }, [&](int64_t r, int64_t k) LH_ATTRIBUTE {
        T* dx = static_cast<T*>(t.dx) + r * t.l;
        T* dresidual = t.dresidual ? static_cast<T*>(t.dresidual) + r * t.l : nullptr;
        const A of_g = mean_g[k], of_gz = mean_gz[k];
        with_row(r, [&](const auto& standard, const uint8_t* mask, auto standardized, auto gradient) LH_ATTRIBUTE {
            each_vector<A>(t.l, [&](int64_t i, auto part) LH_ATTRIBUTE {
                Vec<A> z = standardized(i, part);
                Vec<A> g = gradient(i, part, z), dz = g;
                if (t.weight) dz *= parameters<A>(t.weight, i, part, 1);
                const Vec<A> d = (dz - z * of_gz - of_g) * standard.scale;
                put(dx + i, counting<Act::masked, A>(mask, i, d, part), part, streamed);
                if (dresidual) store(dresidual + i, g, part);
                if (!summed) return;
                store(sums.block_gz + i, load(sums.block_gz + i, part) + kept<A>(g * z, part), part);
                store(sums.block_g + i, load(sums.block_g + i, part) + kept<A>(g, part), part);
            });
        });
        if (!summed || (r + 1 < end && (r - begin + 1) % ROWS_A_BLOCK)) return;
        for (int64_t i = 0; i < t.l; ++i) {
            sums.g[i] += double(sums.block_g[i]), sums.gz[i] += double(sums.block_gz[i]);
            sums.block_g[i] = sums.block_gz[i] = 0;
        }
    });
    end_of_stream();
}

template <class T, class Act> bool rows_backward(const Task& t) {
    const bool streamed = streams(static_cast<const T*>(t.dx), t.n * t.l, t.l);
    ThreadSums<Wide<T>> sums{t};
    if (!sums.made()) return false;
#pragma omp parallel for schedule(static, 1) num_threads(t.threads)
    for (int k = 0; k < t.threads; ++k)
        rows_backward_of<T, Act>(t, t.n * k / t.threads, t.n * (k + 1) / t.threads, sums.of(k), sums.summed, streamed);
    sums.add_up();
    return true;
}

}  // namespace
