// Philox4x32 with 7 rounds (Salmon et al. 2011), several blocks at a time: a block of 128 random bits is a function of
// its number, the seed and the stream, and serves 8 elements with 16 bits each.
//
// For block b, seed s and stream t, words of 32 bits, low word first:
//   counter = (b, b >> 32, t, t >> 32)    key = (s, s >> 32)
//   each round: (c0, c1, c2, c3) <- (hi(M1 c2) ^ c1 ^ k0, lo(M1 c2), hi(M0 c0) ^ c3 ^ k1, lo(M0 c0)), then the key moves
#pragma once

#include "simd.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace {

// A word of 32 bits in each lane of 64; what the upper half of a lane holds does not matter.
using Words = Lanes<double>::U;

// The product of 64 bits of the lower halves; two words into one lane; the even and the odd lanes of both in turn.
#if defined(__AVX512F__)
// Masks of ones: the plain forms make GCC 12 warn of what they leave undefined.
LH_INLINE Words product(Words a, Words b) { return Words(_mm512_maskz_mul_epu32(0xff, __m512i(a), __m512i(b))); }
LH_INLINE Words joined(Words low, Words high) { return Words((low & 0xffffffffu) | (high << 32)); }
LH_INLINE Words even(Words a, Words b) { return Words(_mm512_maskz_unpacklo_epi64(0xff, __m512i(a), __m512i(b))); }
LH_INLINE Words odd(Words a, Words b) { return Words(_mm512_maskz_unpackhi_epi64(0xff, __m512i(a), __m512i(b))); }
#elif defined(__AVX2__)
LH_INLINE Words product(Words a, Words b) { return Words(_mm256_mul_epu32(__m256i(a), __m256i(b))); }
LH_INLINE Words joined(Words low, Words high) {
    return Words(_mm256_blend_epi32(__m256i(low), __m256i(high << 32), 0xaa));
}
LH_INLINE Words even(Words a, Words b) { return Words(_mm256_unpacklo_epi64(__m256i(a), __m256i(b))); }
LH_INLINE Words odd(Words a, Words b) { return Words(_mm256_unpackhi_epi64(__m256i(a), __m256i(b))); }
#else
LH_INLINE Words joined(Words low, Words high) { return (low & 0xffffffffu) | (high << 32); }
#if defined(__SSE2__)
LH_INLINE Words product(Words a, Words b) { return Words(_mm_mul_epu32(__m128i(a), __m128i(b))); }
#else
LH_INLINE Words product(Words a, Words b) { return (a & 0xffffffffu) * (b & 0xffffffffu); }
#endif
LH_INLINE Words even(Words a, Words b) { return Words{a[0], b[0]}; }
LH_INLINE Words odd(Words a, Words b) { return Words{a[1], b[1]}; }
#endif

class Philox {
    static constexpr int rounds = 7, width = Lanes<double>::width;
    static constexpr uint64_t M0 = 0xD2511F53, M1 = 0xCD9E8D57;
    uint64_t stream_low, stream_high;
    uint32_t key[rounds][2];

    // Writes the blocks whose numbers have the low words `low` and the high word `high`, 8 halves each.
    LH_INLINE void blocks(Words low, uint64_t high, uint16_t* out) const {
        Words c0 = low, c1 = Words{} + high, c2 = Words{} + stream_low, c3 = Words{} + stream_high;
#pragma GCC unroll 7
        for (int r = 0; r < rounds; ++r) {
            const Words p0 = product(Words{} + M0, c0), p1 = product(Words{} + M1, c2);
            c0 = (p1 >> 32) ^ c1 ^ uint64_t(key[r][0]);
            c1 = p1;
            c2 = (p0 >> 32) ^ c3 ^ uint64_t(key[r][1]);
            c3 = p0;
        }
        const Words first = joined(c0, c1), second = joined(c2, c3);
        const Words lower = even(first, second), upper = odd(first, second);
        memcpy(out, &lower, sizeof(lower));
        memcpy(out + sizeof(lower) / 2, &upper, sizeof(upper));
    }

  public:
    Philox(uint64_t seed, uint64_t stream) : stream_low(stream & 0xffffffffu), stream_high(stream >> 32) {
        for (uint32_t r = 0; r < rounds; ++r) {
            key[r][0] = uint32_t(seed) + r * 0x9E3779B9u;
            key[r][1] = uint32_t(seed >> 32) + r * 0xBB67AE85u;
        }
    }

    // At least `count` halves, at most 127 more, from the first of number `block` on. No block among them, the first
    // apart, has a number whose low word is 0.
    LH_INLINE void halves(uint64_t block, int64_t count, uint16_t* out) const {
        Words low{};  // in the order that even() and odd() turn into the natural one
        for (int lane = 0; lane < width; ++lane) low[lane] = block + uint64_t(lane / 2 + lane % 2 * (width / 2));
        for (int64_t i = 0; i < count; i += 16 * width, low += 2 * width) {
            blocks(low, block >> 32, out + i);  // two at a time hide each other's waiting
            blocks(low + width, block >> 32, out + i + 8 * width);
        }
    }
};

}  // namespace
