// Count, mean and M2 of channels in one pass over memory, all in double: compiled once for each instruction set.
//
// Blocks of values are summed as d = x - shift and d², and merged by Chan's formula; the shift is the mean of the
// blocks before. As a block is no larger than what was seen before it, (mean - shift)² is at most a few times what it
// adds to M2 anyway: no digit is lost. A channel's first block is summed about its first value, and once more about its mean
// if that was far off. How work is cut depends on the shape alone, so the bits do not depend on the number of threads.
#include "statistics.h"

#include "simd.h"

namespace {

using levelhead::Statistics;
using D = Vec<double>;

constexpr int64_t FIRST = 64, BLOCK = 8192;  // values a channel in the first block, and in the largest
constexpr int64_t PIECE = 4096;              // the longest piece of a plane that is summed at once
constexpr int64_t TILE = 1024;               // channels that one unit of work holds sums of, at most
constexpr int64_t UNITS = 64, UNIT = 65536;  // how many units of work are useful, and how many values make one
constexpr double FAR = 16;                   // how much larger than M2 the shifted sum of squares may be

// The values of one vector of the calculating type, in double.
template <class T> struct Doubles {
    static constexpr int lanes = Lanes<Wide<T>>::width, halves = sizeof(double) / sizeof(Wide<T>);
    D half[halves];

    template <class P> LH_INLINE Doubles(const T* from, P part) {
        const Vec<Wide<T>> value = load(from, part);
        if constexpr (halves == 1) half[0] = value;
        else {
            typedef float Half __attribute__((vector_size(LH_BYTES / 2)));
            Half parts[2];
            memcpy(parts, &value, sizeof(parts));
            half[0] = __builtin_convertvector(parts[0], D), half[1] = __builtin_convertvector(parts[1], D);
        }
    }
};

// Sums of d, of d² and, where NaN is skipped, of ones.
template <bool skip> struct Sums {
    D sum = {}, squares = {}, seen = {};

    LH_INLINE void add(D x, D shift) {
        D d = x - shift;
        if constexpr (skip) {
            d = x == x ? d : D{};
            seen += x == x ? splat(1.0) : D{};
        }
        sum += d;
        squares += d * d;
    }
    LH_INLINE void add_first(D x, D shift, int64_t count) {  // only that many lanes
        D d = x - shift;
        Mask<double> counts = lane_numbers<double>() < count;
        if constexpr (skip) counts &= x == x;
        d = counts ? d : D{};
        seen += counts ? splat(1.0) : D{};
        sum += d;
        squares += d * d;
    }
    LH_INLINE void operator+=(const Sums& other) {
        sum += other.sum, squares += other.squares, seen += other.seen;
    }
};

LH_INLINE bool finite(double v) { return v - v == 0; }

struct Moments {
    double count = 0, mean = 0, m2 = 0;

    LH_INLINE void merge(const Moments& other) {
        if (other.count == 0) return;
        if (count == 0) {
            *this = other;
            return;
        }
        const double total = count + other.count, share = other.count / total, delta = other.mean - mean;
        mean += delta * share;
        m2 += other.m2 + delta * delta * (count * share);
        count = total;
    }
};

// One unit of work: channels first..first+channels, and of the pieces (examples, or parts of them) begin..end.
template <class T, bool skip> struct Unit {
    static constexpr int lanes = Doubles<T>::lanes, halves = Doubles<T>::halves, width = Lanes<double>::width;
    const Statistics& t;
    const T *x, *stop;  // stop is behind the last value of all
    int64_t first, channels, piece, pieces;
    alignas(64) double shift[TILE], sum[TILE], squares[TILE], seen[TILE];

    Unit(const Statistics& t, int64_t first, int64_t channels, int64_t piece, int64_t pieces)
        : t(t), x(static_cast<const T*>(t.x)), first(first), channels(channels), piece(piece), pieces(pieces) {
        stop = x + (t.n - 1) * t.example + (t.c - 1) * t.channel + t.l;
        for (int64_t c = 0; c < TILE; ++c) shift[c] = 0;
    }
    const T* start(int64_t v) const {
        if (pieces == 1) return x + v * t.example + first * t.channel;
        return x + v / pieces * t.example + v % pieces * piece + first * t.channel;
    }
    int64_t length(int64_t v) const {
        const int64_t left = t.l - v % pieces * piece;
        return left < piece ? left : piece;
    }

    __attribute__((noinline)) void add_planes(int64_t begin, int64_t end) {
        for (int64_t v = begin; v < end; ++v) {
            const int64_t n = length(v);
            for (int64_t c = 0; c < channels; ++c) {
                const T* from = start(v) + c * t.channel;
                const D origin = splat(shift[c]);
                Sums<skip> of[4];
                int64_t i = 0;
                for (; i + 4 / halves * lanes <= n; i += 4 / halves * lanes)
                    for (int k = 0; k < 4 / halves; ++k) {
                        const Doubles<T> value(from + i + k * lanes, Full{});
                        for (int h = 0; h < halves; ++h) of[k * halves + h].add(value.half[h], origin);
                    }
                for (; i + lanes <= n; i += lanes) {
                    const Doubles<T> value(from + i, Full{});
                    for (int h = 0; h < halves; ++h) of[h].add(value.half[h], origin);
                }
                if (i < n) {  // what lies behind is another plane's, but may be read
                    const Doubles<T> value = from + i + lanes <= stop ? Doubles<T>(from + i, Full{})
                                                                      : Doubles<T>(from + i, Part{int(n - i)});
                    for (int h = 0; h < halves; ++h) of[h].add_first(value.half[h], origin, n - i - h * width);
                }
                of[0] += of[1], of[2] += of[3], of[0] += of[2];
                sum[c] += total<double>(of[0].sum), squares[c] += total<double>(of[0].squares);
                if constexpr (skip) seen[c] += total<double>(of[0].seen);
            }
        }
    }

    // Rows r..r+rows of the channels from c on; lanes behind the last channel fill up sums that nobody reads.
    template <int rows, class P> LH_INLINE void add_vector(const T* from, int64_t c, P part) {
        Sums<skip> of[halves];
        D origin[halves];
        for (int h = 0; h < halves; ++h) {
            origin[h] = load(shift + c + h * width, Full{});
            of[h].sum = load(sum + c + h * width, Full{});
            of[h].squares = load(squares + c + h * width, Full{});
            if constexpr (skip) of[h].seen = load(seen + c + h * width, Full{});
        }
        for (int r = 0; r < rows; ++r) {
            const Doubles<T> value(from + r * t.example + c, part);
            for (int h = 0; h < halves; ++h) of[h].add(value.half[h], origin[h]);
        }
        for (int h = 0; h < halves; ++h) {
            store(sum + c + h * width, of[h].sum, Full{});
            store(squares + c + h * width, of[h].squares, Full{});
            if constexpr (skip) store(seen + c + h * width, of[h].seen, Full{});
        }
    }
    template <int rows> LH_INLINE void add_rows(const T* from) {
        int64_t c = 0;
        for (; c + lanes <= channels; c += lanes) add_vector<rows>(from, c, Full{});
        if (c == channels) return;
        if (from + (rows - 1) * t.example + c + lanes <= stop) add_vector<rows>(from, c, Full{});
        else
            for (int r = 0; r < rows; ++r) add_vector<1>(from + r * t.example, c, Part{int(channels - c)});
    }
    __attribute__((noinline)) void add_columns(int64_t begin, int64_t end) {
        int64_t r = begin;
        for (; r + 8 <= end; r += 8) add_rows<8>(start(r));
        for (; r < end; ++r) add_rows<1>(start(r));
    }

    void add(int64_t begin, int64_t end) {
        for (int64_t c = 0; c < TILE; ++c) sum[c] = squares[c] = seen[c] = 0;
        if (t.columns) add_columns(begin, end);
        else add_planes(begin, end);
        if constexpr (!skip) {
            int64_t values = end - begin;
            if (!t.columns) {
                values = 0;
                for (int64_t v = begin; v < end; ++v) values += length(v);
            }
            for (int64_t c = 0; c < channels; ++c) seen[c] = double(values);
        }
    }

    void run(int64_t begin, int64_t end, Moments* result) {
        for (int64_t c = 0; c < channels; ++c) {
            const double value = Doubles<T>(start(begin) + c * t.channel, Part{1}).half[0][0];
            shift[c] = finite(value) ? value : 0;
        }
        int64_t values = 0;
        for (int64_t v = begin, next; v < end; v = next) {
            const int64_t wanted = values < FIRST ? FIRST : values < BLOCK ? values : BLOCK;
            next = v + (wanted / piece > 1 ? wanted / piece : 1);
            if (next > end) next = end;
            values += (next - v) * piece;
            add(v, next);
            bool again = false;
            for (int64_t c = 0; c < channels; ++c) {
                if (result[c].count != 0 || seen[c] == 0) continue;
                const double delta = sum[c] / seen[c], m2 = squares[c] - sum[c] * delta;
                if (squares[c] <= FAR * m2 || !finite(delta)) continue;
                shift[c] += delta;
                again = true;
            }
            if (again) add(v, next);
            for (int64_t c = 0; c < channels; ++c) {
                const double delta = seen[c] > 0 ? sum[c] / seen[c] : 0, m2 = squares[c] - sum[c] * delta;
                result[c].merge({seen[c], shift[c] + delta, m2 < 0 ? 0 : m2});
                if (result[c].count > 0 && finite(result[c].mean)) shift[c] = result[c].mean;
            }
        }
    }
};

template <class T, bool skip> bool statistics_of(const Statistics& t) {
    const int64_t pieces = (t.l + PIECE - 1) / PIECE, piece = (t.l + pieces - 1) / pieces, examples = t.n * pieces;
    int64_t tile = t.columns ? TILE : 4 * PIECE / piece;  // of planes as many as stay in the cache
    tile = tile > TILE ? TILE : tile;
    const int64_t tiles = (t.c + tile - 1) / tile;
    int64_t parts = t.n * t.c * t.l / UNIT;
    parts = parts > UNITS ? UNITS : parts;
    parts /= tiles;
    if (parts > t.n * t.l / 1024) parts = t.n * t.l / 1024;  // fewer values of a channel are not worth a merge
    parts = parts > examples ? examples : parts < 1 ? 1 : parts;
    Buffer<Moments> results(parts * t.c);
    if (!results.data) return false;
    const int64_t units = tiles * parts;
    const int threads = int(units < t.threads ? units : t.threads);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t u = 0; u < units; ++u) {
        const int64_t part = u / tiles, first = u % tiles * tile, channels = t.c - first < tile ? t.c - first : tile;
        Unit<T, skip> unit(t, first, channels, piece, pieces);
        unit.run(examples * part / parts, examples * (part + 1) / parts, results.data + part * t.c + first);
    }
    for (int64_t c = 0; c < t.c; ++c) {
        Moments all;
        for (int64_t part = 0; part < parts; ++part) all.merge(results[part * t.c + c]);
        t.count[c] = all.count, t.mean[c] = all.count > 0 ? all.mean : __builtin_nan(""), t.m2[c] = all.m2;
    }
    return true;
}

// Rows of few channels do not fill vectors: several rows are one of more channels, and those are merged.
template <class T, bool skip> bool folded(const Statistics& t) {
    int64_t rows = 1;
    while (rows * t.c % Doubles<T>::lanes || rows * t.c < 64) ++rows;
    if (!t.columns || t.example != t.c || t.c >= 128 || t.n < 64 * rows) return statistics_of<T, skip>(t);
    const int64_t channels = rows * t.c, whole = t.n / rows;
    Buffer<double> memory(3 * (channels + t.c));
    if (!memory.data) return false;
    double *count = memory.data, *mean = count + channels, *m2 = mean + channels, *rest = m2 + channels;
    Statistics many = t;
    many.n = whole, many.c = many.example = channels;
    many.count = count, many.mean = mean, many.m2 = m2;
    if (!statistics_of<T, skip>(many)) return false;
    Statistics few = t;
    few.n = t.n - whole * rows, few.x = static_cast<const T*>(t.x) + whole * channels;
    few.count = rest, few.mean = rest + t.c, few.m2 = rest + 2 * t.c;
    if (few.n && !statistics_of<T, skip>(few)) return false;
    for (int64_t c = 0; c < t.c; ++c) {
        Moments all;
        for (int64_t at = c; at < channels; at += t.c) all.merge({count[at], mean[at], m2[at]});
        all.merge({few.count[c], few.mean[c], few.m2[c]});
        t.count[c] = all.count, t.mean[c] = all.count > 0 ? all.mean : __builtin_nan(""), t.m2[c] = all.m2;
    }
    return true;
}

template <class T> bool of_type(const Statistics& t) { return t.skip ? folded<T, true>(t) : folded<T, false>(t); }

}  // namespace

bool levelhead::LEVELHEAD_ISA::statistics(const Statistics& t) {
    switch (t.type) {
        case FLOAT32: return of_type<float>(t);
        case FLOAT64: return of_type<double>(t);
        case BFLOAT16: return of_type<bfloat16>(t);
        default: return of_type<float16>(t);
    }
}
