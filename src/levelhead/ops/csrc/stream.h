// Stores past the caches, for results that no cache keeps: a line that is written whole is then not read first, which is a
// third of what a copy moves, and what is read again (the input, by the next pass) stays in the cache.
#pragma once

#include "simd.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace {

constexpr int64_t STREAMED = int64_t(32) << 20;  // bytes of a result from which on no cache keeps it

// `to` is aligned to the size of what is stored.
template <class V> LH_INLINE void stream_vector(void* to, V value) {
#if defined(__SSE2__)
    if constexpr (sizeof(V) == 16) _mm_stream_si128(static_cast<__m128i*>(to), bits_of<__m128i>(value));
#if defined(__AVX__)
    else if constexpr (sizeof(V) == 32) _mm256_stream_si256(static_cast<__m256i*>(to), bits_of<__m256i>(value));
#endif
#if defined(__AVX512F__)
    else if constexpr (sizeof(V) == 64) _mm512_stream_si512(static_cast<__m512i*>(to), bits_of<__m512i>(value));
#endif
    else memcpy(to, &value, sizeof(V));
#else
    memcpy(to, &value, sizeof(V));
#endif
}

template <class T> LH_INLINE void stream(T* to, Vec<Wide<T>> value) {
    if constexpr (sizeof(T) == 2) stream_vector(to, narrow(T{}, value));
    else stream_vector(to, value);
}

LH_INLINE void end_of_stream() {
#if defined(__SSE2__)
    _mm_sfence();
#endif
}

// Whether n values are too many for the caches.
template <class T> LH_INLINE bool leaves_caches(int64_t n) { return n * int64_t(sizeof(T)) >= STREAMED; }

// Whether a result of n values in rows of `row` is streamed: each row is whole lines of memory, so that none is written
// in two parts. Of two results only the first is: two streams at a time take up to twice as long as one.
template <class T> LH_INLINE bool streams(const T* to, int64_t n, int64_t row = 64) {
    return leaves_caches<T>(n) && reinterpret_cast<uintptr_t>(to) % 64 == 0 && row * int64_t(sizeof(T)) % 64 == 0;
}

// A store that goes past the caches where it is asked to and is of a whole vector.
template <class T, class P> LH_INLINE void put(T* to, Vec<Wide<T>> value, P part, bool streamed) {
    if constexpr (__is_same(P, Full)) {
        if (streamed) return stream(to, value);
    }
    store(to, value, part);
}

}  // namespace
