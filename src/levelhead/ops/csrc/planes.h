// (n, c, l), contiguous: batch norm, and group and instance norm. One thread does a whole set of statistics, all its
// passes one after the other, while the values are in cache; so results do not depend on the number of threads.
#pragma once

#include "inverse.h"
#include "moments.h"
#include "stream.h"

namespace {

// The planes of one set: plane k has channel channel(k) and starts at start(k).
struct Set {
    int64_t planes, group, first, step, channels, channel0, length;
    bool across;

    LH_INLINE Set(const Task& t, int64_t s)
        : group(t.across ? 1 : t.c / t.groups), first(s * group), channels(t.c), channel0(first % t.c), length(t.l),
          across(t.across) {
        planes = across ? t.n : group;
        step = across ? t.c : 1;
    }
    LH_INLINE void next() {  // a division for each set costs as much as a set of 16 values
        first += group, channel0 += group;
        if (channel0 == channels) channel0 = 0;
    }
    LH_INLINE int64_t plane(int64_t k) const { return first + k * step; }
    LH_INLINE int64_t channel(int64_t k) const { return across ? channel0 : channel0 + k; }
    LH_INLINE int64_t start(int64_t k) const { return plane(k) * length; }
    template <class T> LH_INLINE Regions<T> regions(const T* x) const {
        if (across) return {x + start(0), planes, length, step * length};
        return {x + start(0), 1, planes * length, 0};
    }
    LH_INLINE int64_t ahead() const { return step * length; }  // from a plane to the set's next
    double size() const { return double(planes) * double(length); }
};

inline int64_t sets_of(const Task& t) { return t.across ? t.c : t.n * t.groups; }

// The functions that hold the loops take their arguments by value: the compiler then knows that no store changes them.
#define LH_LOOPS __attribute__((noinline))

template <class T, class Act> LH_LOOPS void planes_forward_of(Task t, int64_t begin, int64_t end) {
    using A = Wide<T>;
    const Act act(t.activation);
    const T *x = static_cast<const T*>(t.x), *residual = static_cast<const T*>(t.residual);
    T* y = static_cast<T*>(t.y);
    const bool overwrites = x == y, streamed = streams(y, t.n * t.c * t.l, t.l);
    Set set(t, begin);
    for (int64_t s = begin; s < end; ++s, set.next()) {
        if (!t.given) {
            const uint8_t* mask = Act::masked ? t.mask + set.start(0) : nullptr;
            Moments m = moments<Act::masked>(set.regions(x), t.center, mask, t.count + s);
            t.mean[s] = m.mean;
            t.var[s] = m.var;
        }
        const Standard<A> standard(t.mean[s], t.var[s], t.eps);
        for (int64_t k = 0; k < set.planes; ++k) {
            const A w = parameter<A>(t.weight, set.channel(k), 1), b = parameter<A>(t.bias, set.channel(k), 0);
            const int64_t start = set.start(k);
            each_vector<A>(set.length, [&](int64_t i, auto part) LH_ATTRIBUTE {
                prefetch(x + start + i, set.ahead());
                Vec<A> u = standard(load(x + start + i, part)) * w + b;
                if (residual) u += load(residual + start + i, part);
                if (!streamed) prefetch(y + start + i, set.ahead());
                const Vec<A> v = counting<Act::masked, A>(t.mask, start + i, act.template value<A>(u), part);
                if (overwrites) store_over(y + start + i, v, part);
                else put(y + start + i, v, part, streamed);
            });
        }
    }
    end_of_stream();
}

template <class T, class Act> bool planes_forward(const Task& t) {
    const int64_t sets = sets_of(t);
#pragma omp parallel for schedule(static, 1) num_threads(t.threads)
    for (int k = 0; k < t.threads; ++k)
        planes_forward_of<T, Act>(t, sets * k / t.threads, sets * (k + 1) / t.threads);
    return true;
}

// plane_g and plane_gz take Σg and Σg·z of every plane (of every set, where it is one channel).
template <class T, class Act>
LH_LOOPS void planes_backward_of(Task t, int64_t begin, int64_t end, double* plane_g, double* plane_gz) {
    using A = Wide<T>;
    const Act act(t.activation);
    const T *x = static_cast<const T*>(t.x), *residual = static_cast<const T*>(t.residual);
    const T* dy = static_cast<const T*>(t.dy);
    T *dx = static_cast<T*>(t.dx), *dresidual = static_cast<T*>(t.dresidual);
    const bool streamed = streams(dx, t.n * t.c * t.l, t.l);
    Set set(t, begin);
    for (int64_t s = begin; s < end; ++s, set.next()) {
        const A scale = Standard<A>(t.mean[s], t.var[s], t.eps).scale;
        const Standard<A> standard = standard_of<A, Act>(t, t.mean[s], t.var[s], s);
        double sum_g = 0, sum_gz = 0;  // of g·w
        auto standardized = [&](int64_t i, auto part, Vec<A> v) LH_ATTRIBUTE {
            return counting<Act::masked, A>(t.mask, i, standard(act.input(v)), part);
        };
        auto gradient = [&](int64_t i, auto part, Vec<A> v, Vec<A> z, A w, A b) LH_ATTRIBUTE {
            if constexpr (Act::needs_input && !Act::from_output) {
                v = z * w + b;
                if (residual) v += load(residual + i, part);
            }
            return counting<Act::masked, A>(t.mask, i, act.template gradient<A>(load(dy + i, part), v), part);
        };
        TwoSums<A> sums;
        for (int64_t k = 0; k < set.planes; ++k) {
            const A w = parameter<A>(t.weight, set.channel(k), 1), b = parameter<A>(t.bias, set.channel(k), 0);
            const int64_t start = set.start(k);
            sums.add(set.length, [&](int64_t i, auto part, auto& sum, auto& product) LH_ATTRIBUTE {
                prefetch(x + start + i, set.ahead());
                prefetch(dy + start + i, set.ahead());
                const Vec<A> v = load(x + start + i, part);
                Vec<A> z = standardized(start + i, part, v);
                Vec<A> g = gradient(start + i, part, v, z, w, b);
                sum += kept<A>(g, part);
                product += kept<A>(g * z, part);
                if (!t.given) return;  // else the statistics are constants, and dx is known at once
                put(dx + start + i, g * w * scale, part, streamed);
                if (dresidual) store(dresidual + start + i, g, part);
            });
            if (set.across && k + 1 < set.planes) continue;  // one channel: its planes are one sum
            sums.flush();
            plane_g[set.plane(k)] = sums.sum1;
            plane_gz[set.plane(k)] = sums.sum2;
            sum_g += double(w) * sums.sum1;
            sum_gz += double(w) * sums.sum2;
            sums.sum1 = sums.sum2 = 0;
        }
        if (t.given) continue;
        const double n = Act::masked ? (t.count[s] ? t.count[s] : 1) : set.size();
        const A mean_g = t.center ? A(sum_g / n) : A(0), mean_gz = A(sum_gz / n);
        for (int64_t k = 0; k < set.planes; ++k) {
            const A w = parameter<A>(t.weight, set.channel(k), 1), b = parameter<A>(t.bias, set.channel(k), 0);
            const int64_t start = set.start(k);
            each_vector<A>(set.length, [&](int64_t i, auto part) LH_ATTRIBUTE {
                prefetch(x + start + i, set.ahead());
                prefetch(dy + start + i, set.ahead());
                const Vec<A> v = load(x + start + i, part);
                Vec<A> z = standardized(start + i, part, v);
                Vec<A> g = gradient(start + i, part, v, z, w, b);
                if (!streamed) prefetch(dx + start + i, set.ahead());
                const Vec<A> d = (g * w - z * mean_gz - mean_g) * scale;
                put(dx + start + i, counting<Act::masked, A>(t.mask, start + i, d, part), part, streamed);
                if (dresidual) store(dresidual + start + i, g, part);
            });
        }
    }
    end_of_stream();
}

template <class T, class Act> bool planes_backward(const Task& t) {
    using A = Wide<T>;
    const int64_t sets = sets_of(t), planes = t.n * t.c;
    Buffer<double> plane_g(planes), plane_gz(planes);
    if (!plane_g.data || !plane_gz.data) return false;
#pragma omp parallel for schedule(static, 1) num_threads(t.threads)
    for (int k = 0; k < t.threads; ++k)
        planes_backward_of<T, Act>(t, sets * k / t.threads, sets * (k + 1) / t.threads, plane_g.data, plane_gz.data);
    for (int64_t c = 0; c < t.c; ++c) {
        double sum_g = 0, sum_gz = 0;
        for (int64_t n = 0; n < t.n; ++n) sum_g += plane_g[n * t.c + c], sum_gz += plane_gz[n * t.c + c];
        if (t.dbias) static_cast<A*>(t.dbias)[c] = A(sum_g);
        if (t.dweight) static_cast<A*>(t.dweight)[c] = A(sum_gz);
    }
    return true;
}

}  // namespace
