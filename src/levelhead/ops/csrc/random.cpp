// Dropout for one instruction set: compiled once for each, with LEVELHEAD_ISA its name, and without contraction of
// products and sums, so that every set gives the same bits.
#include "random_elements.h"

namespace {

constexpr int64_t GRAIN = 16384;  // elements that pay for another thread

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
    if (streams(static_cast<const T*>(t.y), t.n)) elements<T, true, Use>(t);
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
