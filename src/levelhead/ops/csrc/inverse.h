// Batch norm's backward pass from its output y alone, whose activation has an inverse: u = inverse(y), z = (u - b)/w.
// Source: Rota Bulò, Porzi & Kontschieder 2018, "In-Place Activated BatchNorm", section 3.1.
#pragma once

#include "activations.h"
#include "moments.h"

namespace {

// log(1 + y) for -1 <= y <= 0: with v = 1 + y rounded, log(v) = n ln(2) + 2 artanh((m - 1)/(m + 1)), times y/(v - 1).
template <class A> LH_INLINE Vec<A> log1p(Vec<A> y) {
    constexpr bool single = sizeof(A) == 4;
    constexpr int terms = single ? 5 : 11, mantissa = single ? 23 : 52;
    constexpr A high = single ? A(0x1.62e4p-1) : A(0x1.62e42fefap-1);
    constexpr A low = single ? A(0x1.7f7d1cp-20) : A(0x1.cf79abc9e3b3ap-40);
    const Vec<A> v = 1 + y;
    // Steps the exponent so that the mantissa lies in √½..√2.
    const Mask<A> least = bits_of<Mask<A>>(splat<A>(A(0.70710678118654752)));
    const Mask<A> exponent = (bits_of<Mask<A>>(v) - least) >> mantissa;
    const Vec<A> m = bits_of<Vec<A>>(bits_of<Mask<A>>(v) - (exponent << mantissa));
    const Vec<A> n = __builtin_convertvector(exponent, Vec<A>);
    const Vec<A> s = (m - 1) / (m + 1), square = s * s;
    Vec<A> series = splat<A>(A(1) / A(2 * terms - 1));
    for (int k = terms - 2; k >= 0; --k) series = series * square + A(1) / A(2 * k + 1);
    const Vec<A> log = n * high + (2 * s * series + n * low);
    return v == 1 ? y : log * (y / (v - 1));
}

// The identity and leaky ReLU.
struct FromLinear {
    static constexpr bool needs_input = true, from_output = true, masked = false;
    double slope;
    explicit FromLinear(int name) : slope(name == LEAKY_RELU ? 0.01 : 1) {}
    LH_INLINE Vec<float> input(Vec<float> y) const { return y > 0 ? y : y * (1 / float(slope)); }
    LH_INLINE Vec<double> input(Vec<double> y) const { return y > 0 ? y : y * (1 / slope); }
    template <class A> LH_INLINE Vec<A> gradient(Vec<A> dy, Vec<A> y) const { return y > 0 ? dy : dy * A(slope); }
};

struct FromElu {
    static constexpr bool needs_input = true, from_output = true, masked = false;
    explicit FromElu(int) {}
    LH_INLINE Vec<float> input(Vec<float> y) const { return y > 0 ? y : log1p<float>(y > 0 ? Vec<float>{} : y); }
    LH_INLINE Vec<double> input(Vec<double> y) const { return y > 0 ? y : log1p<double>(y > 0 ? Vec<double>{} : y); }
    template <class A> LH_INLINE Vec<A> gradient(Vec<A> dy, Vec<A> y) const { return y > 0 ? dy : dy * (y + 1); }
};

// What makes z of x, or of u where the kernel starts from the output; `c` is the set's channel.
template <class A, class Act> LH_INLINE Standard<A> standard_of(const Task& t, double mean, double var, int64_t c) {
    Standard<A> standard(mean, var, t.eps);
    if constexpr (Act::from_output) {
        standard.high = parameter<A>(t.bias, c, 0), standard.low = 0;
        standard.scale = 1 / parameter<A>(t.weight, c, 1);
    }
    return standard;
}

}  // namespace
