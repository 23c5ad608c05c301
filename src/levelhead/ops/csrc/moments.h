// Mean and variance of strided regions, exact at any offset and scale.
//
// Sums of d = x - shift and of d² are taken in blocks in the calculating type and over the blocks in double; the shift
// is the mean of the first values. Then m2 = Σd² - (Σd)²/n. This loses digits only if the shift is many standard
// deviations from the mean (the first values were unlike the others): that shows in Σd² >> m2, and a second round
// with the mean as the shift repairs it. Where d² leaves the range of float, everything is done in double.
#pragma once

#include "simd.h"

namespace {

// `count` regions of `length` adjacent values each, `stride` apart.
template <class T> struct Regions {
    const T* base;
    int64_t count, length, stride;
};

struct Moments {
    double mean, var;
};

constexpr int64_t ROWS_A_BLOCK = 128;  // where rows are summed: how many in the calculating type
constexpr double FAR = 16;           // how much larger than m2 the shifted sum of squares may be
constexpr double LARGE = 1e37;       // near the end of float
constexpr double SMALL = 1e-30;      // a mean square that float cannot hold well

// Whether sums in the calculating type A say nothing: not finite, or beyond what a float holds well.
template <class A> LH_INLINE bool out_of_range(double squares, double sum, double n) {
    if (sizeof(A) == 8) return !(squares - squares == 0);
    return !(squares < LARGE) || (squares < SMALL * n && (squares > 0 || sum != 0));
}

LH_INLINE double widened(float v) { return v; }
LH_INLINE double widened(double v) { return v; }
template <class T> LH_INLINE double widened(T v) {
    T values[LH_BYTES / 4] = {v};
    return double(load(values, Full{})[0]);
}

// `value`, the vector at i, where it counts; everywhere without a mask.
template <bool masked, class A, class P> LH_INLINE Vec<A> counting(const uint8_t* mask, int64_t i, Vec<A> value, P part) {
    if constexpr (masked) return counted<A>(value, mask + i, part);
    else return value;
}

// How many of `length` values count.
LH_INLINE int64_t counts(const uint8_t* mask, int64_t length) {
    int64_t n = 0;
    for (int64_t i = 0; i < length; ++i) n += mask[i] != 0;
    return n;
}

// The slow and sure way: two passes in double over the n values that count.
template <bool masked, class T> Moments moments_in_double(Regions<T> at, bool center, const uint8_t* mask, double n) {
    double sum = 0, squares = 0;
    auto each = [&](auto f) {
        for (int64_t r = 0; r < at.count; ++r)
            for (int64_t i = r * at.stride; i < r * at.stride + at.length; ++i)
                if (!masked || mask[i]) f(widened(at.base[i]));
    };
    if (center) each([&](double v) { sum += v; });
    double mean = sum / n;
    each([&](double v) { squares += (v - mean) * (v - mean); });
    return {mean, squares / n};
}

// Of the values that count, if there is a mask, which lies as the regions do; their number goes to `count`. None have
// the mean 0 and the variance 1. Inline, since a call of its own keeps the sums in memory: a row of 64 values then takes
// 1.6 times as long.
template <bool masked = false, class T>
LH_INLINE Moments moments(Regions<T> at, bool center, const uint8_t* mask = nullptr, double* count = nullptr) {
    using A = Wide<T>;
    double n = double(at.count) * double(at.length);
    if constexpr (masked) {
        n = 0;
        for (int64_t r = 0; r < at.count; ++r) n += double(counts(mask + r * at.stride, at.length));
        *count = n;
        if (n == 0) return {0, 1};
    }
    A shift = 0;
    if (center) {
        TwoSums<A> first;
        int64_t some = at.length < 256 ? at.length : 256;
        first.add(some, [&](int64_t i, auto part, auto& sum, auto&) LH_ATTRIBUTE {
            sum += kept<A>(counting<masked, A>(mask, i, load(at.base + i, part), part), part);
        });
        first.flush();
        if constexpr (masked) some = counts(mask, some);
        shift = some ? A(first.sum1 / double(some)) : A(0);
    }
    for (int round = 0;; ++round) {
        TwoSums<A> sums;
        for (int64_t r = 0; r < at.count; ++r) {
            const int64_t start = r * at.stride;
            const T* x = at.base + start;
            sums.add(at.length, [&](int64_t i, auto part, auto& sum, auto& squares) LH_ATTRIBUTE {
                prefetch(x + i, at.stride);
                Vec<A> d = kept<A>(counting<masked, A>(mask, start + i, load(x + i, part) - shift, part), part);
                sum += d;
                squares += d * d;
            });
        }
        sums.flush();
        if (out_of_range<A>(sums.sum2, sums.sum1, n)) return moments_in_double<masked>(at, center, mask, n);
        if (!center) return {0, sums.sum2 / n};
        double delta = sums.sum1 / n, m2 = sums.sum2 - sums.sum1 * delta;
        if (round == 2 || !(sums.sum2 > FAR * m2)) return {double(shift) + delta, (m2 < 0 ? 0 : m2) / n};
        shift = A(double(shift) + delta);
    }
}

// The moments of a union of sets of equal size, by Chan's formula.
LH_INLINE Moments merged(const double* mean, const double* var, int64_t sets) {
    double m = 0, v = 0;
    for (int64_t k = 0; k < sets; ++k) m += (mean[k] - mean[0]) / double(sets);
    m += mean[0];
    if (!(m - m == 0)) {  // infinite ones: their sum says with which sign
        m = 0;
        for (int64_t k = 0; k < sets; ++k) m += mean[k];
    }
    for (int64_t k = 0; k < sets; ++k) v += (var[k] + (mean[k] - m) * (mean[k] - m)) / double(sets);
    return {m, v};
}

template <class A> LH_INLINE A parameter(const void* values, int64_t at, A otherwise) {
    return values ? static_cast<const A*>(values)[at] : otherwise;
}

// (x - mean)/√(var + eps) with the mean in two parts, so that a large one costs no digits.
template <class A> struct Standard {
    A high, low, scale;
    LH_INLINE Standard(double mean, double var, double eps)
        : high(A(mean)), low(A(mean - double(high))), scale(A(1 / __builtin_sqrt(var + eps))) {}
    LH_INLINE Vec<A> operator()(Vec<A> x) const { return ((x - high) - low) * scale; }
};

}  // namespace
