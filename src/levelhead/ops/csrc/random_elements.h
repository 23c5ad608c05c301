// Dropout of a range of elements, for the kernels that need it: alone (random.cpp) and before a norm (random_rows.cpp).
#pragma once

#include "kernels.h"
#include "random.h"
#include "random_philox.h"
#include "stream.h"

namespace {

using levelhead::Dropout;

constexpr int64_t CHUNK = 2048;  // elements whose random bits wait in the first cache at a time; a power of two

// The lanes whose half is at least the threshold.
template <class A> LH_INLINE Mask<A> kept_lanes(const uint16_t* random, int32_t threshold) {
    typedef uint16_t Halves __attribute__((vector_size(LH_BYTES / sizeof(A) * 2)));
    Halves halves;
    memcpy(&halves, random, sizeof(halves));
#if defined(__AVX2__) && !defined(__AVX512F__)  // where GCC 12 converts one half at a time
    if constexpr (sizeof(A) == 4) return Mask<A>(_mm256_cvtepu16_epi32(__m128i(halves))) >= threshold;
    else
#endif
    return __builtin_convertvector(halves, Mask<A>) >= threshold;
}

// What is done to the noise: it is the result itself, or x is multiplied by it and an offset added or not.
struct Noise {
    static constexpr bool multiplies = false, adds = false;
    explicit Noise(const Dropout&) {}
};
struct Plain {
    static constexpr bool multiplies = true, adds = false;
    explicit Plain(const Dropout&) {}
};
template <class A> struct Shifted {
    static constexpr bool multiplies = true, adds = true;
    Vec<A> shift, fill;
    explicit Shifted(const Dropout& t) : shift(splat<A>(A(t.shift))), fill(splat<A>(A(t.fill))) {}
    template <class P> LH_INLINE Vec<A> offset(int64_t, Mask<A> keep, P) const { return keep ? shift : fill; }
};
template <class T> struct Residual {
    static constexpr bool multiplies = true, adds = true;
    const T* values;
    explicit Residual(const Dropout& t) : values(static_cast<const T*>(t.residual)) {}
    template <class P> LH_INLINE Vec<Wide<T>> offset(int64_t i, Mask<Wide<T>>, P part) const {
        return load(values + i, part);
    }
};

// One chunk, which starts at element `start` and has its random bits in `random`.
template <class T, bool streamed, class Use>
LH_INLINE void chunk(const Dropout& t, const Use& use, int64_t start, int64_t length, const uint16_t* random) {
    using A = Wide<T>;
    const T* x = static_cast<const T*>(t.x);
    T* y = static_cast<T*>(t.y);
    const Vec<A> scale = splat<A>(A(t.scale));
    auto vector = [&](int64_t i, auto part) LH_ATTRIBUTE {
        const Mask<A> keep = kept_lanes<A>(random + i, t.threshold);
        Vec<A> value = keep ? scale : Vec<A>{};
        if constexpr (Use::multiplies) value = load(x + start + i, part) * value;  // a dropped NaN stays one, as in PyTorch
        if constexpr (Use::adds) value = value + use.offset(start + i, keep, part);
        if constexpr (streamed && __is_same(decltype(part), Full)) stream(y + start + i, value);
        else store(y + start + i, value, part);
    };
    constexpr int width = Lanes<A>::width;
    int64_t i = 0;
#pragma GCC unroll 4
    for (; i + width <= length; i += width) vector(i, Full{});
    if (i < length) vector(i, Part{int(length - i)});
}

// Elements `begin` to `end`, wherever they lie in a block of the generator; fewer than 2^35.
template <class T, bool streamed, class Use>
LH_INLINE void range(const Dropout& t, const Use& use, const Philox& philox, int64_t begin, int64_t end) {
    alignas(64) uint16_t random[CHUNK + 128];
    while (begin < end) {
        const int64_t block = begin / 8, offset = begin % 8, room = CHUNK - offset;
        const int64_t length = end - begin < room ? end - begin : room;
        philox.halves(uint64_t(block), offset + length, random);
        chunk<T, streamed>(t, use, begin, length, random + offset);
        begin += length;
    }
}

}  // namespace
