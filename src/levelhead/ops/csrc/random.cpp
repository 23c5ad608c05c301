// Dropout for one instruction set: compiled once for each, with LEVELHEAD_ISA its name, and without contraction of
// products and sums, so that every set gives the same bits.
#include "random.h"

#include "kernels.h"
#include "random_philox.h"

namespace {

using levelhead::Dropout;

constexpr int64_t CHUNK = 2048;  // elements whose random bits wait in the first cache at a time; a power of two
constexpr int64_t GRAIN = 16384;              // elements that pay for another thread
constexpr int64_t STREAMED = int64_t(32) << 20;  // bytes of y that no cache keeps: stored past it

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

template <class T, bool streamed, class Use> void elements(const Dropout& t) {
    const Use use(t);
    const Philox philox(t.seed, t.stream);
    const int64_t chunks = (t.n + CHUNK - 1) / CHUNK;
    const int64_t useful = (t.n + GRAIN - 1) / GRAIN;
    const int threads = int(useful < t.threads ? useful : t.threads);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t c = 0; c < chunks; ++c) {
        alignas(64) uint16_t random[CHUNK + 128];
        const int64_t start = c * CHUNK, left = t.n - start;
        const int64_t length = left < CHUNK ? left : CHUNK;
        philox.halves(uint64_t(start) / 8, length, random);
        chunk<T, streamed>(t, use, start, length, random);
    }
    if constexpr (streamed) end_of_stream();
}

template <class T, class Use> void by_size(const Dropout& t) {
    const bool aligned = reinterpret_cast<uintptr_t>(t.y) % LH_BYTES == 0;
    if (aligned && t.n * int64_t(sizeof(T)) >= STREAMED) elements<T, true, Use>(t);
    else elements<T, false, Use>(t);
}

template <class T> void of_type(const Dropout& t) {
    if (t.residual) by_size<T, Residual<T>>(t);
    else if (t.shift != 0 || t.fill != 0) by_size<T, Shifted<Wide<T>>>(t);
    else if (t.x) by_size<T, Plain>(t);
    else by_size<T, Noise>(t);
}

}  // namespace

void levelhead::LEVELHEAD_ISA::dropout(const Dropout& t) {
    switch (t.type) {
        case FLOAT32: return of_type<float>(t);
        case FLOAT64: return of_type<double>(t);
        case BFLOAT16: return of_type<bfloat16>(t);
        default: return of_type<float16>(t);
    }
}
