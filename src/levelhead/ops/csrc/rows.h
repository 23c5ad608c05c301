// (n, l), contiguous: layer norm and RMS norm, with parameters by position. A thread takes adjacent rows.
#pragma once

#include "planes.h"

namespace {

template <class A, class P> LH_INLINE Vec<A> parameters(const void* values, int64_t i, P part, A otherwise) {
    return values ? load(static_cast<const A*>(values) + i, part) : splat<A>(otherwise);
}

template <class T, class Act> bool rows_forward(const Task& t) {
    using A = Wide<T>;
    const Act act(t.activation);
    const T *x = static_cast<const T*>(t.x), *residual = static_cast<const T*>(t.residual);
    T* y = static_cast<T*>(t.y);
#pragma omp parallel for schedule(static) num_threads(t.threads)
    for (int64_t r = 0; r < t.n; ++r) {
        const int64_t start = r * t.l;
        if (!t.given) {
            Moments m = moments(Regions<T>{x + start, 1, t.l, 0}, t.center);
            t.mean[r] = m.mean;
            t.var[r] = m.var;
        }
        const Standard<A> standard(t.mean[r], t.var[r], t.eps);
        each_vector<A>(t.l, [&](int64_t i, auto part) LH_ATTRIBUTE {
            Vec<A> u = standard(load(x + start + i, part));
            if (t.weight) u *= parameters<A>(t.weight, i, part, 1);
            if (t.bias) u += parameters<A>(t.bias, i, part, 0);
            if (residual) u += load(residual + start + i, part);
            store(y + start + i, act.template value<A>(u), part);
        });
    }
    return true;
}

// The parameters' gradients are summed by thread: over ROWS_A_BLOCK rows in the calculating type, over those in double.
template <class T, class Act> bool rows_backward(const Task& t) {
    using A = Wide<T>;
    const Act act(t.activation);
    const T *x = static_cast<const T*>(t.x), *residual = static_cast<const T*>(t.residual);
    const T* dy = static_cast<const T*>(t.dy);
    T *dx = static_cast<T*>(t.dx), *dresidual = static_cast<T*>(t.dresidual);
    const bool summed = t.dweight || t.dbias;
    const int64_t length = t.l, sums = summed ? length * t.threads : 0;
    Buffer<double> sum_g(sums), sum_gz(sums);
    Buffer<A> block_g(sums), block_gz(sums);
    if (!sum_g.data || !sum_gz.data || !block_g.data || !block_gz.data) return false;
#pragma omp parallel for schedule(static, 1) num_threads(t.threads)
    for (int thread = 0; thread < t.threads; ++thread) {
        const int64_t begin = t.n * thread / t.threads, end = t.n * (thread + 1) / t.threads;
        double *all_g = sum_g.data + length * thread * summed, *all_gz = sum_gz.data + length * thread * summed;
        A *some_g = block_g.data + length * thread * summed, *some_gz = block_gz.data + length * thread * summed;
        for (int64_t r = begin; r < end; ++r) {
            const int64_t start = r * length;
            const Standard<A> standard(t.mean[r], t.var[r], t.eps);
            auto gradient = [&](int64_t i, auto part, Vec<A> z) LH_ATTRIBUTE {
                Vec<A> u = z;
                if constexpr (Act::needs_input) {
                    if (t.weight) u *= parameters<A>(t.weight, i, part, 1);
                    if (t.bias) u += parameters<A>(t.bias, i, part, 0);
                    if (residual) u += load(residual + start + i, part);
                }
                return act.template gradient<A>(load(dy + start + i, part), u);
            };
            TwoSums<A> of_row;
            of_row.add(length, [&](int64_t i, auto part, auto& sum, auto& product) LH_ATTRIBUTE {
                Vec<A> z = standard(load(x + start + i, part));
                Vec<A> dz = gradient(i, part, z);
                if (t.weight) dz *= parameters<A>(t.weight, i, part, 1);
                sum += kept<A>(dz, part);
                product += kept<A>(dz * z, part);
            });
            of_row.flush();
            const A mean_g = t.given || !t.center ? A(0) : A(of_row.sum1 / double(length));
            const A mean_gz = t.given ? A(0) : A(of_row.sum2 / double(length));
            each_vector<A>(length, [&](int64_t i, auto part) LH_ATTRIBUTE {
                Vec<A> z = standard(load(x + start + i, part));
                Vec<A> g = gradient(i, part, z), dz = g;
                if (t.weight) dz *= parameters<A>(t.weight, i, part, 1);
                store(dx + start + i, (dz - z * mean_gz - mean_g) * standard.scale, part);
                if (dresidual) store(dresidual + start + i, g, part);
                if (!summed) return;
                store(some_gz + i, load(some_gz + i, part) + kept<A>(g * z, part), part);
                store(some_g + i, load(some_g + i, part) + kept<A>(g, part), part);
            });
            if (!summed || (r + 1 < end && (r - begin + 1) % ROWS_A_BLOCK)) continue;
            for (int64_t i = 0; i < length; ++i) {
                all_g[i] += double(some_g[i]), all_gz[i] += double(some_gz[i]);
                some_g[i] = some_gz[i] = 0;
            }
        }
    }
    for (int64_t i = 0; summed && i < length; ++i) {
        double g = 0, gz = 0;
        for (int thread = 0; thread < t.threads; ++thread)
            g += sum_g[length * thread + i], gz += sum_gz[length * thread + i];
        if (t.dbias) static_cast<A*>(t.dbias)[i] = A(g);
        if (t.dweight) static_cast<A*>(t.dweight)[i] = A(gz);
    }
    return true;
}

}  // namespace
