// Vectors of one instruction set's width, from the compiler's vector extension: the code of the kernels is written
// once and compiled per instruction set. Everything is in an unnamed namespace, and nothing of the standard library's
// templates is used, so that the linker cannot take a function compiled for AVX-512 into the baseline.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define LH_BYTES 64
#elif defined(__AVX__)
#define LH_BYTES 32
#else
#define LH_BYTES 16
#endif
#define LH_INLINE inline __attribute__((always_inline))
#define LH_ATTRIBUTE __attribute__((always_inline))

namespace {

struct bfloat16 {
    uint16_t bits;
};
struct float16 {
    uint16_t bits;
};

// The type that values of type T are calculated in.
template <class T> struct Calculates {
    using type = float;
};
template <> struct Calculates<double> {
    using type = double;
};
template <class T> using Wide = typename Calculates<T>::type;

template <class A> struct Lanes;
template <> struct Lanes<float> {
    static constexpr int width = LH_BYTES / 4;
    typedef float V __attribute__((vector_size(LH_BYTES)));
    typedef int32_t I __attribute__((vector_size(LH_BYTES)));
    typedef uint32_t U __attribute__((vector_size(LH_BYTES)));
    typedef uint16_t Half __attribute__((vector_size(LH_BYTES / 2)));
};
template <> struct Lanes<double> {
    static constexpr int width = LH_BYTES / 8;
    typedef double V __attribute__((vector_size(LH_BYTES)));
    typedef int64_t I __attribute__((vector_size(LH_BYTES)));
    typedef uint64_t U __attribute__((vector_size(LH_BYTES)));
};
template <class A> using Vec = typename Lanes<A>::V;
template <class A> using Mask = typename Lanes<A>::I;

template <class To, class From> LH_INLINE To bits_of(From value) {
    static_assert(sizeof(To) == sizeof(From));
    To result;
    memcpy(&result, &value, sizeof(To));
    return result;
}

template <class A> LH_INLINE Vec<A> splat(A value) { return value - Vec<A>{}; }

template <class A> LH_INLINE Mask<A> lane_numbers() {
    Mask<A> numbers;
    for (int k = 0; k < Lanes<A>::width; ++k) numbers[k] = k;
    return numbers;
}

using F = Vec<float>;
using I = Lanes<float>::I;
using U = Lanes<float>::U;
using H = Lanes<float>::Half;

#if defined(__AVX2__) && !defined(__AVX512F__)  // where GCC 12 takes the two halves apart
LH_INLINE U words(H bits) { return U(_mm256_cvtepu16_epi32(__m128i(bits))); }
#else
LH_INLINE U words(H bits) { return __builtin_convertvector(bits, U); }
#endif

LH_INLINE F widen(bfloat16, H bits) { return bits_of<F>(words(bits) << 16); }

LH_INLINE F widen(float16, H bits) {
    U half = words(bits);
    U magnitude = (half & 0x7fff) << 13;
    U value = bits_of<U>(bits_of<F>(magnitude) * 0x1p112f);  // moves the exponent, subnormals included
    value = bits_of<I>(magnitude) >= 0x0f800000 ? (magnitude | 0x7f800000u) : value;  // inf and NaN
    return bits_of<F>(value | ((half & 0x8000) << 16));
}

LH_INLINE H narrow(bfloat16, F value) {  // to nearest, ties to even
    U u = bits_of<U>(value);
    U rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
    rounded = value != value ? (u >> 16) | 0x40 : rounded;
    return __builtin_convertvector(rounded, H);
}

LH_INLINE H narrow(float16, F value) {  // to nearest, ties to even
    U u = bits_of<U>(value);
    I magnitude = bits_of<I>(u & 0x7fffffff);
    U m = bits_of<U>(magnitude);
    U normal = (m + 0xfff + ((m >> 13) & 1) - (112u << 23)) >> 13;
    U tiny = bits_of<U>(bits_of<F>(m) + 0.5f) - 0x3f000000u;  // the unit of 0.5f is the smallest float16
    U result = magnitude < 0x38800000 ? tiny : normal;
    result = magnitude >= 0x477ff000 ? U{} + 0x7c00u : result;
    result = magnitude > 0x7f800000 ? U{} + 0x7e00u : result;
    return __builtin_convertvector(result | ((u >> 16) & 0x8000), H);
}

// How much of a vector counts: all of it; the last `fresh` lanes, the others were done before; the first `count`.
struct Full {};
struct Overlap {
    int fresh;
};
struct Part {
    int count;
};

template <class T, class P> LH_INLINE Vec<Wide<T>> load(const T* from, P part) {
    using A = Wide<T>;
    constexpr int width = Lanes<A>::width;
    T piece[width];
    if constexpr (__is_same(P, Part)) {
        memset(piece, 0, sizeof(piece));
        for (int k = 0; k < part.count; ++k) piece[k] = from[k];
        from = piece;
    }
    if constexpr (sizeof(T) == 2) {
        H bits;
        memcpy(&bits, from, sizeof(bits));
        return widen(T{}, bits);
    } else {
        Vec<A> value;
        memcpy(&value, from, sizeof(value));
        return value;
    }
}

template <class T, class P> LH_INLINE void store(T* to, Vec<Wide<T>> value, P part) {
    constexpr int width = Lanes<Wide<T>>::width;
    T piece[width];
    T* target = __is_same(P, Part) ? piece : to;
    if constexpr (sizeof(T) == 2) {
        H bits = narrow(T{}, value);
        memcpy(target, &bits, sizeof(bits));
    } else {
        memcpy(target, &value, sizeof(value));
    }
    if constexpr (__is_same(P, Part)) {
        for (int k = 0; k < part.count; ++k) to[k] = piece[k];
    }
}

#if defined(__AVX512F__)  // has loads and stores of a part
LH_INLINE Vec<float> load(const float* from, Part part) {
    return Vec<float>(_mm512_maskz_loadu_ps(__mmask16((1u << part.count) - 1), from));
}
LH_INLINE Vec<double> load(const double* from, Part part) {
    return Vec<double>(_mm512_maskz_loadu_pd(__mmask8((1u << part.count) - 1), from));
}
LH_INLINE void store(float* to, Vec<float> value, Part part) {
    _mm512_mask_storeu_ps(to, __mmask16((1u << part.count) - 1), __m512(value));
}
LH_INLINE void store(double* to, Vec<double> value, Part part) {
    _mm512_mask_storeu_pd(to, __mmask8((1u << part.count) - 1), __m512d(value));
}
#endif

// A store for where the input is overwritten: of an overlap, what was done before stays, since it was read too late.
template <class T, class P> LH_INLINE void store_over(T* to, Vec<Wide<T>> value, P part) {
    if constexpr (__is_same(P, Overlap)) {
        const auto fresh = lane_numbers<Wide<T>>() >= Lanes<Wide<T>>::width - part.fresh;
        value = fresh ? value : load(static_cast<const T*>(to), Full{});
    }
    store(to, value, part);
}

// Asks for the values `ahead` of here: planes of one channel lie far apart, where the hardware does not look ahead.
template <class T> LH_INLINE void prefetch(const T* here, int64_t ahead) {
    __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(here) + size_t(ahead) * sizeof(T)));
}

// `value` where it counts, else 0.
template <class A> LH_INLINE Vec<A> kept(Vec<A> value, Full) { return value; }
template <class A> LH_INLINE Vec<A> kept(Vec<A> value, Overlap part) {
    return lane_numbers<A>() >= Lanes<A>::width - part.fresh ? value : Vec<A>{};
}
template <class A> LH_INLINE Vec<A> kept(Vec<A> value, Part part) {
    return lane_numbers<A>() < part.count ? value : Vec<A>{};
}

// `value` where the mask's bytes are not 0, else 0.
template <class A, class P> LH_INLINE Vec<A> counted(Vec<A> value, const uint8_t* mask, P part) {
    constexpr int width = Lanes<A>::width;
    typedef uint8_t Bytes __attribute__((vector_size(width)));
    Bytes bytes = {};
    if constexpr (__is_same(P, Part)) memcpy(&bytes, mask, size_t(part.count));
    else memcpy(&bytes, mask, width);
    return __builtin_convertvector(bytes, Mask<A>) != 0 ? value : Vec<A>{};
}

// Calls f(i, part) for vectors that cover 0..n. With n of at least a vector the rest is a vector that overlaps what was
// done, so f must be free to repeat its stores.
template <class A, class Each> LH_INLINE void each_vector(int64_t n, Each f) {
    constexpr int width = Lanes<A>::width;
    int64_t i = 0;
    for (; i + width <= n; i += width) f(i, Full{});
    if (i == n) return;
    if (n >= width) f(n - width, Overlap{int(n - i)});
    else f(i, Part{int(n - i)});
}

// As many values as fit, in double.
template <class A> LH_INLINE Vec<double> doubles(const A* from) {
    typedef A Few __attribute__((vector_size(Lanes<double>::width * sizeof(A))));
    Few few;
    memcpy(&few, from, sizeof(few));
    return __builtin_convertvector(few, Vec<double>);
}

// The sum of all lanes, in double; in two chains, since one takes longer than a short row.
template <class A> LH_INLINE double total(Vec<A> v) {
    constexpr int width = Lanes<double>::width;
    A lanes[Lanes<A>::width];
    memcpy(lanes, &v, sizeof(v));
    Vec<double> sum = doubles(lanes);
    for (int k = width; k < Lanes<A>::width; k += width) sum += doubles(lanes + k);
    double even = 0, odd = 0;
    for (int k = 0; k < width; k += 2) even += sum[k], odd += sum[k + 1];
    return even + odd;
}

#if defined(__AVX__)
// Sums over a quarter of the lanes each, in double.
LH_INLINE __m256d quarters(__m256 v) {
    return _mm256_cvtps_pd(_mm256_castps256_ps128(v)) + _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1));
}
LH_INLINE __m256d quarters(__m256d v) { return v; }
#if defined(__AVX512F__)  // of all lanes by a mask: GCC 12 takes the plain form's undefined lanes for a fault of ours
LH_INLINE __m256d quarters(__m512d v) {
    return _mm512_maskz_extractf64x4_pd(0xff, v, 0) + _mm512_maskz_extractf64x4_pd(0xff, v, 1);
}
LH_INLINE __m256d quarters(__m512 v) {
    return quarters(_mm512_maskz_cvtps_pd(0xff, _mm512_maskz_extractf32x8_ps(0xff, v, 0)) +
                    _mm512_maskz_cvtps_pd(0xff, _mm512_maskz_extractf32x8_ps(0xff, v, 1)));
}
#endif
#endif

// Adds the sums of all lanes of a and of b, both at a time: of a short row they take most of the time (layer norm of rows
// of 64 values with AVX-512, forward: 48 ns a row one by one, and 36 so).
template <class A> LH_INLINE void add_totals(Vec<A> a, Vec<A> b, double& sum_a, double& sum_b) {
#if defined(__AVX__)
    const __m256d pairs = _mm256_hadd_pd(quarters(a), quarters(b));
    const __m128d both = _mm256_castpd256_pd128(pairs) + _mm256_extractf128_pd(pairs, 1);
    sum_a += both[0], sum_b += both[1];
#else
    sum_a += total<A>(a), sum_b += total<A>(b);
#endif
}

// Two sums of one pass: vectors of at most `block` values in the calculating type, those in double.
template <class A> struct TwoSums {
    static constexpr int64_t block = 2048;
    Vec<A> first[4] = {}, second[4] = {};
    int64_t pending = 0;
    double sum1 = 0, sum2 = 0;

    // f(i, part, first, second) adds the vector at i to both accumulators.
    template <class Each> LH_INLINE void add(int64_t n, Each f) {
        for (int64_t at = 0; at < n; at += block) {
            int64_t length = n - at < block ? n - at : block;
            if (pending + length > block) flush();
            pending += length;
            Vec<A> a0 = first[0], a1 = first[1], a2 = first[2], a3 = first[3];
            Vec<A> b0 = second[0], b1 = second[1], b2 = second[2], b3 = second[3];
            constexpr int width = Lanes<A>::width;
            int64_t i = at, end = at + length;
            for (; i + 4 * width <= end; i += 4 * width) {
                f(i, Full{}, a0, b0);
                f(i + width, Full{}, a1, b1);
                f(i + 2 * width, Full{}, a2, b2);
                f(i + 3 * width, Full{}, a3, b3);
            }
            for (; i + width <= end; i += width) f(i, Full{}, a0, b0);
            if (i < end && length >= width) f(end - width, Overlap{int(end - i)}, a1, b1);
            else if (i < end) f(i, Part{int(end - i)}, a0, b0);
            first[0] = a0, first[1] = a1, first[2] = a2, first[3] = a3;
            second[0] = b0, second[1] = b1, second[2] = b2, second[3] = b3;
        }
    }

    LH_INLINE void flush() {
        add_totals<A>((first[0] + first[1]) + (first[2] + first[3]), (second[0] + second[1]) + (second[2] + second[3]),
                      sum1, sum2);
        for (int k = 0; k < 4; ++k) first[k] = second[k] = Vec<A>{};
        pending = 0;
    }
};

// Two lines of the caches, which are fetched together: what threads write side by side is as far apart, or else each
// store takes the lines away from the other (layer norm of 3,136 rows of 80 values backward with two threads: 255 us, and
// 71 apart).
constexpr int64_t LINES = 128;

// At least n values, so that what follows them begins on a line of its own.
template <class E> LH_INLINE int64_t apart(int64_t n) {
    constexpr int64_t some = LINES / int64_t(sizeof(E));
    return (n + some - 1) / some * some;
}

// Memory that is freed at the end of its scope; throws nothing: `ok` says whether it is there.
template <class E> struct Buffer {
    E* data;
    void* all;  // `data` begins on a line of the caches
    explicit Buffer(int64_t n) : all(calloc(size_t(n > 0 ? n : 1) + LINES / sizeof(E) + 1, sizeof(E))) {
        data = all ? reinterpret_cast<E*>((reinterpret_cast<uintptr_t>(all) + LINES - 1) / LINES * LINES) : nullptr;
    }
    ~Buffer() { free(all); }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    E& operator[](int64_t i) { return data[i]; }
};

}  // namespace
