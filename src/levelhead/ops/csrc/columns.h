// (n, l, c), channels last: batch norm (across; n = 1), group and instance norm. Vectors lie along the channels.
// With few examples all threads share one; with many each thread takes whole ones, so that they stay in cache.
#pragma once

#include "rows.h"

namespace {

// Calls f(r, stop, c, part) for vectors of channels over `together` rows, r to stop.
template <class A, class Each>
LH_INLINE void each_row(int64_t begin, int64_t end, int64_t together, int64_t channels, Each f) {
    for (int64_t r = begin; r < end; r += together) {
        const int64_t stop = r + together < end ? r + together : end;
        each_vector<A>(channels, [&](int64_t c, auto part) LH_ATTRIBUTE { f(r, stop, c, part); });
    }
}

// How many rows are gone through together, so that constants and sums are loaded once for them: as many as find places
// of their own in the nearest cache. What comes from memory is rather taken in its order.
template <class T> LH_INLINE int64_t together(int64_t rows, int64_t channels) {
    const int64_t size = channels * int64_t(sizeof(T));
    if (rows * size <= 8 << 20) return size < 1024 ? 4096 / size : 4;
    return size < 512 ? 1024 / size : 1;
}

// How far ahead the values of large inputs are asked for: the hardware does not look beyond a page.
template <class T> constexpr int64_t AHEAD = 8192 / int64_t(sizeof(T));

// Two sums a channel over rows: memory of one thread, `block` cleared.
template <class A> struct ChannelSums {
    A *block1, *block2;
    double *sum1, *sum2;
    int64_t channels;

    // Adds `block` to `sum` and clears it.
    LH_INLINE static void take(double* sum, A* block, int64_t n) {
        constexpr int width = Lanes<double>::width;
        int64_t c = 0;
        for (; c + width <= n; c += width) {
            store(sum + c, load(static_cast<const double*>(sum + c), Full{}) + doubles(block + c), Full{});
            memset(block + c, 0, width * sizeof(A));
        }
        for (; c < n; ++c) sum[c] += double(block[c]), block[c] = 0;
    }

    // f(r, c, part, first, second) adds the vector at row r and channel c to both.
    template <class Each>
    LH_LOOPS static void add(ChannelSums me, int64_t begin, int64_t end, int64_t together, Each f) {
        const auto [block1, block2, sum1, sum2, channels] = me;
        for (int64_t c = 0; c < channels; ++c) sum1[c] = sum2[c] = 0;
        for (int64_t at = begin; at < end; at += ROWS_A_BLOCK) {
            int64_t stop = at + ROWS_A_BLOCK < end ? at + ROWS_A_BLOCK : end;
            each_row<A>(at, stop, together, channels, [&](int64_t r, int64_t last, int64_t c, auto part) LH_ATTRIBUTE {
                Vec<A> first = {}, second = {};
                for (; r < last; ++r) f(r, c, part, first, second);
                store(block1 + c, load(block1 + c, part) + kept<A>(first, part), part);
                store(block2 + c, load(block2 + c, part) + kept<A>(second, part), part);
            });
            take(sum1, block1, channels), take(sum2, block2, channels);
        }
    }
};

// What one example needs; allocated once a call, a slice a thread that works on an example of its own.
template <class A> struct Channels {
    Buffer<A> block1, block2, constants;
    Buffer<double> sum1, sum2, mean, var;
    int64_t channels, step;

    Channels(int64_t channels, int64_t slices) : Channels(channels, apart<A>(channels), slices) {}
    Channels(int64_t channels, int64_t step, int64_t slices)
        : block1(step * slices), block2(step * slices), constants(8 * step * slices), sum1(step * slices),
          sum2(step * slices), mean(step * slices), var(step * slices), channels(channels), step(step) {}
    bool ok() const {
        return block1.data && block2.data && constants.data && sum1.data && sum2.data && mean.data && var.data;
    }
    ChannelSums<A> sums(int64_t slice) {
        int64_t at = slice * step;
        return {block1.data + at, block2.data + at, sum1.data + at, sum2.data + at, channels};
    }

    // Two sums a channel over `rows`, by `threads` threads with the slices from `slice` on; the result is in `slice`.
    template <class Each> void add(int64_t slice, int threads, int64_t rows, int64_t together, Each f) {
        if (threads == 1) return ChannelSums<A>::add(sums(slice), 0, rows, together, f);
#pragma omp parallel for schedule(static, 1) num_threads(threads)
        for (int k = 0; k < threads; ++k)
            ChannelSums<A>::add(sums(slice + k), rows * k / threads, rows * (k + 1) / threads, together, f);
        double *all1 = sum1.data + slice * step, *all2 = sum2.data + slice * step;
        for (int64_t k = 1; k < threads; ++k)
            for (int64_t c = 0; c < channels; ++c) all1[c] += all1[k * step + c], all2[c] += all2[k * step + c];
    }
};

// Mean and variance of every channel of one example, as moments.h describes, into the slice's mean and var.
template <class T> void channel_moments(const T* x, int64_t rows, bool center, Channels<Wide<T>>& mem, int64_t slice,
                                        int threads) {
    using A = Wide<T>;
    const int64_t channels = mem.channels, at = slice * mem.step;
    A* shift = mem.constants.data + 8 * at;
    double *mean = mem.mean.data + at, *var = mem.var.data + at, *sum = mem.sum1.data + at, *sq = mem.sum2.data + at;
    const bool large = leaves_caches<T>(rows * channels);
    const int64_t at_once = together<T>(rows, channels);
    auto add = [&](int count, int64_t some) {
        auto each = [=](int64_t r, int64_t c, auto part, auto& first, auto& second) LH_ATTRIBUTE {
            if (large) prefetch(x + r * channels + c, AHEAD<T>);
            Vec<A> d = load(x + r * channels + c, part) - load(shift + c, part);
            first += d;
            second += d * d;
        };
        mem.add(slice, count, some, at_once < 4 ? 4 : at_once, each);
    };
    for (int64_t c = 0; c < channels; ++c) shift[c] = 0;
    if (center) {
        const int64_t some = rows < 64 ? rows : 64;
        add(1, some);
        for (int64_t c = 0; c < channels; ++c) shift[c] = A(sum[c] / double(some));
    }
    const double n = double(rows);
    for (int round = 0; round < 3; ++round) {
        add(threads, rows);
        bool far = false;
        for (int64_t c = 0; c < channels; ++c) {
            if (out_of_range<A>(sq[c], sum[c], n)) {
                Moments m = moments_in_double<false>(Regions<T>{x + c, rows, 1, channels}, center, nullptr, n);
                mean[c] = m.mean, var[c] = m.var;
                continue;
            }
            double delta = center ? sum[c] / n : 0, m2 = sq[c] - sum[c] * delta;
            far |= center && sq[c] > FAR * m2;
            mean[c] = center ? double(shift[c]) + delta : 0;
            var[c] = (m2 < 0 ? 0 : m2) / n;
        }
        if (!far) return;
        for (int64_t c = 0; c < channels; ++c) shift[c] = A(mean[c]);
    }
}

// The constants of every channel, one array each: z = ((x - HIGH) - LOW) * SCALE, weight, bias, and for the backward
// pass the means of g·w and g·w·z. The first array is the shift of the moments before it is 1/√(var + eps).
enum Constant { DEVIATION, HIGH, LOW, SCALE, WEIGHT, BIAS, MEAN_G, MEAN_GZ };

template <class A> struct Constants {
    A* data;
    int64_t channels;
    LH_INLINE A* of(Constant which) const { return data + which * channels; }
    template <class P> LH_INLINE Vec<A> at(Constant which, int64_t c, P part) const {
        return load(static_cast<const A*>(of(which)) + c, part);
    }

    template <class Act>
    Constants(const Task& t, const Act&, Channels<A>& mem, int64_t slice, int64_t example)
        : data(mem.constants.data + 8 * slice * mem.step), channels(mem.channels) {
        const int64_t size = t.across ? 1 : t.c / t.groups, sets = t.c / size;
        for (int64_t c = 0; c < channels; ++c) {
            const int64_t s = example * sets + c / size;
            of(DEVIATION)[c] = Standard<A>(t.mean[s], t.var[s], t.eps).scale;
            Standard<A> standard = standard_of<A, Act>(t, t.mean[s], t.var[s], c);
            of(HIGH)[c] = standard.high, of(LOW)[c] = standard.low, of(SCALE)[c] = standard.scale;
            of(WEIGHT)[c] = parameter<A>(t.weight, c, 1), of(BIAS)[c] = parameter<A>(t.bias, c, 0);
        }
    }
};

constexpr int64_t SOME_BYTES = 256 << 10;  // long enough for the hardware to look ahead, and less than a cache

// Blocks of rows from the last to the first: the pass before has left the last ones in the cache.
template <class Each> LH_LOOPS void over_rows(int64_t begin, int64_t end, int64_t block, Each f) {
    for (int64_t stop = end; stop > begin; stop -= block) f(stop - begin > block ? stop - block : begin, stop);
    end_of_stream();
}

// f(begin, end) over the rows of an example, of `size` bytes each, by `threads` threads; f holds copies, see LH_LOOPS.
template <class Each> void split_rows(int64_t rows, int64_t size, int threads, Each f) {
    const int64_t least = SOME_BYTES / size, block = least > ROWS_A_BLOCK ? least : ROWS_A_BLOCK;
    if (threads == 1) return over_rows(0, rows, block, f);
#pragma omp parallel for schedule(static, 1) num_threads(threads)
    for (int k = 0; k < threads; ++k) over_rows(rows * k / threads, rows * (k + 1) / threads, block, f);
}

// f(example, slice, threads) for every example.
template <class Each> void each_example(const Task& t, Each f) {
    if (t.n < t.threads) {
        for (int64_t example = 0; example < t.n; ++example) f(example, int64_t(0), t.threads);
        return;
    }
#pragma omp parallel for schedule(static, 1) num_threads(t.threads)
    for (int k = 0; k < t.threads; ++k)
        for (int64_t example = t.n * k / t.threads; example < t.n * (k + 1) / t.threads; ++example)
            f(example, int64_t(k), 1);
}

template <class T, class Act> bool columns_forward(const Task& t) {
    using A = Wide<T>;
    const Act act(t.activation);
    const int64_t channels = t.c, groups = t.across ? t.c : t.groups, size = t.c / groups;
    const int64_t rows = together<T>(t.l, channels);
    Channels<A> mem(channels, t.threads);
    if (!mem.ok()) return false;
    each_example(t, [&](int64_t example, int64_t slice, int threads) {
        const int64_t start = example * t.l * channels;
        const T *x = static_cast<const T*>(t.x) + start, *residual = static_cast<const T*>(t.residual);
        T* y = static_cast<T*>(t.y) + start;
        const bool overwrites = x == y, streamed = streams(y, t.n * t.l * t.c, t.c);
        const bool large = leaves_caches<T>(t.l * channels);
        if (residual) residual += start;
        if (!t.given) {
            channel_moments(x, t.l, t.center, mem, slice, threads);
            for (int64_t g = 0; g < groups; ++g) {
                const int64_t at = slice * mem.step + g * size;
                Moments m = merged(mem.mean.data + at, mem.var.data + at, size);
                t.mean[example * groups + g] = m.mean;
                t.var[example * groups + g] = m.var;
            }
        }
        const Constants<A> constants(t, act, mem, slice, example);
        split_rows(t.l, channels * int64_t(sizeof(T)), threads, [=](int64_t begin, int64_t end) LH_ATTRIBUTE {
            each_row<A>(begin, end, rows, channels, [&](int64_t r, int64_t stop, int64_t c, auto part) LH_ATTRIBUTE {
                const Vec<A> high = constants.at(HIGH, c, part), low = constants.at(LOW, c, part);
                const Vec<A> scale = constants.at(SCALE, c, part);
                const Vec<A> w = constants.at(WEIGHT, c, part), b = constants.at(BIAS, c, part);
                for (; r < stop; ++r) {
                    const int64_t i = r * channels + c;
                    if (large) prefetch(x + i, AHEAD<T>);
                    Vec<A> u = ((load(x + i, part) - high) - low) * scale * w + b;
                    if (residual) u += load(residual + i, part);
                    if (overwrites) store_over(y + i, act.template value<A>(u), part);
                    else put(y + i, act.template value<A>(u), part, streamed);
                }
            });
        });
    });
    return true;
}

template <class T, class Act> bool columns_backward(const Task& t) {
    using A = Wide<T>;
    const Act act(t.activation);
    const int64_t channels = t.c, groups = t.across ? t.c : t.groups, size = t.c / groups;
    const int64_t rows = together<T>(t.l, channels);
    Channels<A> mem(channels, t.threads);
    Buffer<double> example_g(t.n * channels), example_gz(t.n * channels);
    if (!mem.ok() || !example_g.data || !example_gz.data) return false;
    each_example(t, [&](int64_t example, int64_t slice, int threads) {
        const int64_t start = example * t.l * channels;
        const T *x = static_cast<const T*>(t.x) + start, *residual = static_cast<const T*>(t.residual);
        const T* dy = static_cast<const T*>(t.dy) + start;
        T *dx = static_cast<T*>(t.dx) + start, *dresidual = static_cast<T*>(t.dresidual);
        if (residual) residual += start;
        if (dresidual) dresidual += start;
        const bool streamed = streams(static_cast<const T*>(t.dx), t.n * t.l * t.c, t.c);
        const Constants<A> constants(t, act, mem, slice, example);
        auto gradient = [=](int64_t i, auto part, Vec<A> v, Vec<A> z, Vec<A> w, Vec<A> b) LH_ATTRIBUTE {
            if constexpr (Act::needs_input && !Act::from_output) {
                v = z * w + b;
                if (residual) v += load(residual + i, part);
            }
            return act.template gradient<A>(load(dy + i, part), v);
        };
        auto add = [=](int64_t r, int64_t c, auto part, auto& sum, auto& product) LH_ATTRIBUTE {
            const Vec<A> high = constants.at(HIGH, c, part), low = constants.at(LOW, c, part);
            const Vec<A> scale = constants.at(SCALE, c, part);
            const Vec<A> w = constants.at(WEIGHT, c, part), b = constants.at(BIAS, c, part);
            const int64_t i = r * channels + c;
            const Vec<A> v = load(x + i, part);
            Vec<A> z = ((act.input(v) - high) - low) * scale;
            Vec<A> g = gradient(i, part, v, z, w, b);
            sum += g;
            product += g * z;
            if (!t.given) return;  // else the statistics are constants, and dx is known at once
            put(dx + i, g * w * constants.at(DEVIATION, c, part), part, streamed);
            if (dresidual) store(dresidual + i, g, part);
        };
        mem.add(slice, threads, t.l, rows, add);
        const double *sum_g = mem.sum1.data + slice * mem.step, *sum_gz = mem.sum2.data + slice * mem.step;
        for (int64_t g = 0; g < groups; ++g) {
            double all_g = 0, all_gz = 0;
            for (int64_t c = g * size; c < (g + 1) * size; ++c) {
                all_g += sum_g[c] * double(constants.of(WEIGHT)[c]);
                all_gz += sum_gz[c] * double(constants.of(WEIGHT)[c]);
                example_g[example * channels + c] = sum_g[c];
                example_gz[example * channels + c] = sum_gz[c];
            }
            for (int64_t c = g * size; c < (g + 1) * size; ++c) {
                constants.of(MEAN_G)[c] = t.center ? A(all_g / double(t.l * size)) : A(0);
                constants.of(MEAN_GZ)[c] = A(all_gz / double(t.l * size));
            }
        }
        if (t.given) return end_of_stream();
        split_rows(t.l, channels * int64_t(sizeof(T)), threads, [=](int64_t begin, int64_t end) LH_ATTRIBUTE {
            each_row<A>(begin, end, rows, channels, [&](int64_t r, int64_t stop, int64_t c, auto part) LH_ATTRIBUTE {
                const Vec<A> high = constants.at(HIGH, c, part), low = constants.at(LOW, c, part);
                const Vec<A> scale = constants.at(SCALE, c, part);
                const Vec<A> w = constants.at(WEIGHT, c, part), b = constants.at(BIAS, c, part);
                const Vec<A> mean_g = constants.at(MEAN_G, c, part), mean_gz = constants.at(MEAN_GZ, c, part);
                const Vec<A> deviation = constants.at(Act::from_output ? DEVIATION : SCALE, c, part);
                for (; r < stop; ++r) {
                    const int64_t i = r * channels + c;
                    const Vec<A> v = load(x + i, part);
                    Vec<A> z = ((act.input(v) - high) - low) * scale;
                    Vec<A> g = gradient(i, part, v, z, w, b);
                    put(dx + i, (g * w - z * mean_gz - mean_g) * deviation, part, streamed);
                    if (dresidual) store(dresidual + i, g, part);
                }
            });
        });
    });
    for (int64_t c = 0; c < channels; ++c) {
        double g = 0, gz = 0;
        for (int64_t example = 0; example < t.n; ++example)
            g += example_g[example * channels + c], gz += example_gz[example * channels + c];
        if (t.dbias) static_cast<A*>(t.dbias)[c] = A(g);
        if (t.dweight) static_cast<A*>(t.dweight)[c] = A(gz);
    }
    return true;
}

}  // namespace
