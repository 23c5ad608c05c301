// The activations and their slopes on vectors, with the numbers of kernels.h.
#pragma once

#include "kernels.h"
#include "simd.h"

namespace {

using namespace levelhead;

// exp(v) = 2^n (1 + p) for v <= 0, with p = exp(r) - 1 by Taylor's series on |r| <= ln(2)/2.
template <class A> struct Exponential {
    Vec<A> power, p;

    LH_INLINE explicit Exponential(Vec<A> v) {
        constexpr bool single = sizeof(A) == 4;
        constexpr A lowest = single ? A(-87) : A(-708);
        constexpr A rounder = single ? A(0x1.8p23) : A(0x1.8p52);
        constexpr A high = single ? A(0x1.62e4p-1) : A(0x1.62e42fefap-1);
        constexpr A low = single ? A(0x1.7f7d1cp-20) : A(0x1.cf79abc9e3b3ap-40);
        constexpr int terms = single ? 7 : 13;
        constexpr int bias = single ? 127 : 1023, mantissa = single ? 23 : 52;
        auto under = v < lowest;
        v = under ? splat<A>(lowest) : v;
        Vec<A> shifted = v * A(1.4426950408889634) + rounder;
        Vec<A> n = shifted - rounder;
        Vec<A> r = (v - n * high) - n * low;
        p = splat<A>(A(1) / factorial(terms));
        for (int k = terms - 1; k >= 1; --k) p = p * r + A(1) / factorial(k);
        p = p * r;
        Mask<A> exponent = bits_of<Mask<A>>(shifted) - bits_of<Mask<A>>(splat<A>(rounder)) + bias;
        power = under ? Vec<A>{} : bits_of<Vec<A>>(exponent << mantissa);
    }

    static constexpr A factorial(int k) { return k < 2 ? A(1) : A(k) * factorial(k - 1); }
    LH_INLINE Vec<A> exp() const { return power * p + power; }
    LH_INLINE Vec<A> expm1() const { return power * p + (power - 1); }
};

template <class A> LH_INLINE Vec<A> absolute(Vec<A> x) { return x < 0 ? -x : x; }

// To [0, 6]; NaN stays NaN.
template <class A> LH_INLINE Vec<A> clamped(Vec<A> x) { return x < 0 ? Vec<A>{} : x > 6 ? splat<A>(6) : x; }

template <class A> LH_INLINE Vec<A> sigmoid(Vec<A> x) {
    Vec<A> e = Exponential<A>(-absolute<A>(x)).exp();
    return (x < 0 ? e : splat<A>(1)) / (1 + e);
}

template <class A> LH_INLINE Vec<A> hyperbolic_tangent(Vec<A> x) {
    Vec<A> e = Exponential<A>(-2 * absolute<A>(x)).expm1();
    Vec<A> t = -e / (e + 2);
    return x < 0 ? -t : t;
}

// Φ(x), the normal distribution function.
LH_INLINE Vec<double> normal_cdf(Vec<double> x) {
    Vec<double> result;
    for (int k = 0; k < Lanes<double>::width; ++k) result[k] = 0.5 * __builtin_erfc(-x[k] * 0.70710678118654752);
    return result;
}
// For float by a polynomial in t = 1/(1 + 0.26 |x|) that was fitted to Φ(-|x|) exp(x²/2): off by less than 1e-10.
LH_INLINE Vec<float> normal_cdf(Vec<float> x) {
    constexpr float coefficients[] = {4.905453417e-02f, -3.347801812e-01f, 8.292259169e-01f, -8.782481226e-01f, 7.750907170e-01f, -2.281901900e-01f, 1.988056415e-01f, 8.789988580e-02f, 1.141798313e-03f};
    Vec<float> size = absolute<float>(x);
    Vec<float> t = 1 / (1 + 0.26f * size), polynomial = {};
    for (float c : coefficients) polynomial = polynomial * t + c;
    Vec<float> tail = Exponential<float>(-0.5f * x * x).exp() * polynomial;
    return x < 0 ? tail : 1 - tail;
}

template <class A> LH_INLINE Vec<A> density(Vec<A> x) {
    return Exponential<A>(A(-0.5) * x * x).exp() * A(0.3989422804014327);
}

// An activation's interface. value(u) is its result; gradient(dy, v) is dy times its slope, with v = u, or with the
// result itself where `from_output` (inverse.h), which `input` takes back to u.
struct Forwards {
    static constexpr bool from_output = false, masked = false;
    template <class V> LH_INLINE V input(V v) const { return v; }
};

struct Identity : Forwards {
    explicit Identity(int) {}
    static constexpr bool needs_input = false;
    template <class A> LH_INLINE Vec<A> value(Vec<A> u) const { return u; }
    template <class A> LH_INLINE Vec<A> gradient(Vec<A> dy, Vec<A>) const { return dy; }
};

struct Relu : Forwards {
    explicit Relu(int) {}
    static constexpr bool needs_input = true;
    template <class A> LH_INLINE Vec<A> value(Vec<A> u) const { return u < 0 ? Vec<A>{} : u; }
    template <class A> LH_INLINE Vec<A> gradient(Vec<A> dy, Vec<A> u) const { return u <= 0 ? Vec<A>{} : dy; }  // NaN lets dy through, as in PyTorch
};

// All others: what they cost hides the switch and, so that the code stays small, a call.
constexpr double TANH_SCALE = 0.7978845608028654, TANH_CUBIC = 0.044715;

template <class A> LH_INLINE Vec<A> tanh_argument(Vec<A> u) { return A(TANH_SCALE) * (u + A(TANH_CUBIC) * u * u * u); }

template <class A> __attribute__((noinline)) Vec<A> value_of(int name, Vec<A> u) {
    switch (name) {
        case LEAKY_RELU: return u > 0 ? u : A(0.01) * u;
        case ELU: return u > 0 ? u : Exponential<A>(u > 0 ? Vec<A>{} : u).expm1();
        case SILU: return u * sigmoid<A>(u);
        case GELU: return u * normal_cdf(u);
        case GELU_TANH: return A(0.5) * u * (1 + hyperbolic_tangent<A>(tanh_argument<A>(u)));
        case SIGMOID: return sigmoid<A>(u);
        case RELU6: return clamped<A>(u);
        case HARDSWISH: return u * clamped<A>(u + 3) / 6;
        default: return hyperbolic_tangent<A>(u);
    }
}

template <class A> __attribute__((noinline)) Vec<A> slope_of(int name, Vec<A> u) {
    switch (name) {
        case LEAKY_RELU: return u > 0 ? splat<A>(1) : splat<A>(A(0.01));
        case ELU: return u > 0 ? splat<A>(1) : Exponential<A>(u > 0 ? Vec<A>{} : u).exp();
        case SILU: {
            Vec<A> s = sigmoid<A>(u);
            return s * (1 + u * (1 - s));
        }
        case GELU: return normal_cdf(u) + u * density<A>(u);
        case GELU_TANH: {
            Vec<A> t = hyperbolic_tangent<A>(tanh_argument<A>(u));
            return A(0.5) * (1 + t) + A(0.5) * u * (1 - t * t) * (A(TANH_SCALE) * (1 + 3 * A(TANH_CUBIC) * u * u));
        }
        case SIGMOID: {
            Vec<A> s = sigmoid<A>(u);
            return s * (1 - s);
        }
        case RELU6: return (u <= 0) | (u >= 6) ? Vec<A>{} : splat<A>(1);  // 1 at NaN, as in PyTorch
        case HARDSWISH: return u <= -3 ? Vec<A>{} : u < 3 ? u / 3 + A(0.5) : splat<A>(1);
        default: {
            Vec<A> t = hyperbolic_tangent<A>(u);
            return 1 - t * t;
        }
    }
}

struct Other : Forwards {
    int name;
    explicit Other(int name) : name(name) {}
    static constexpr bool needs_input = true;
    template <class A> LH_INLINE Vec<A> value(Vec<A> u) const { return value_of<A>(name, u); }
    template <class A> LH_INLINE Vec<A> gradient(Vec<A> dy, Vec<A> u) const { return dy * slope_of<A>(name, u); }
};

// Any activation, where not every value counts.
struct Masked : Other {
    using Other::Other;
    static constexpr bool masked = true;
    template <class A> LH_INLINE Vec<A> value(Vec<A> u) const {
        if (name == IDENTITY) return u;
        return name == RELU ? Relu(name).value<A>(u) : Other::value<A>(u);
    }
    template <class A> LH_INLINE Vec<A> gradient(Vec<A> dy, Vec<A> u) const {
        if (name == IDENTITY) return dy;
        return name == RELU ? Relu(name).gradient<A>(dy, u) : Other::gradient<A>(dy, u);
    }
};

}  // namespace
