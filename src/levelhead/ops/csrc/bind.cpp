// Chooses the instruction set and presents the kernels to Python. Pointers come as integers, so that one build serves
// every version of torch; the caller vouches for them.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <new>
#include <string>
#include <vector>

#include "kernels.h"
#include "random.h"
#include "statistics.h"

namespace nb = nanobind;
using namespace levelhead;

namespace {

struct Choice {
    std::string name;
    Kernels kernels;
    void (*dropout)(const Dropout&);
    bool (*dropout_norm)(const DropoutNorm&);
    bool (*statistics)(const Statistics&);
};

// What this CPU can run, the best first.
std::vector<Choice> available() {
    std::vector<Choice> choices;
#ifdef LEVELHEAD_HAS_AVX512
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("bmi2"))
        choices.push_back({"avx512", avx512::kernels(), avx512::dropout, avx512::dropout_norm, avx512::statistics});
#endif
#ifdef LEVELHEAD_HAS_AVX2
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
        __builtin_cpu_supports("bmi2"))
        choices.push_back({"avx2", avx2::kernels(), avx2::dropout, avx2::dropout_norm, avx2::statistics});
#endif
    choices.push_back({"baseline", baseline::kernels(), baseline::dropout, baseline::dropout_norm,
                       baseline::statistics});
    return choices;
}

const std::vector<Choice>& choices() {
    static const std::vector<Choice> all = available();
    return all;
}

Choice chosen = choices().front();

std::vector<std::string> instruction_sets() {
    std::vector<std::string> names;
    for (const Choice& choice : choices()) names.push_back(choice.name);
    return names;
}

void use(const std::string& name) {
    for (const Choice& choice : choices())
        if (choice.name == name) {
            chosen = choice;
            return;
        }
    throw nb::value_error(("this CPU or build has no " + name).c_str());
}

using Address = uintptr_t;
template <class T> T* at(Address address) { return reinterpret_cast<T*>(address); }

void run(bool (*kernel)(const Task&), const Task& task) {
    nb::gil_scoped_release release;
    if (!kernel(task)) throw std::bad_alloc();
}

// A norm of tensors of one shape and type: made once, and called with the addresses of the tensors. `stats` are the
// means of all sets, then their variances and, with a mask, their counts.
struct Plan {
    Task task{};

    Plan(int layout, int type, int activation, bool across, bool center, bool given, int64_t n, int64_t c, int64_t l,
         int64_t groups, double eps, int threads) {
        task.layout = layout, task.type = type, task.activation = activation;
        task.across = across, task.center = center, task.given = given;
        task.n = n, task.c = c, task.l = l, task.groups = groups, task.eps = eps;
        task.threads = threads < 1 ? 1 : threads;
    }

    Task of(Address x, Address residual, Address weight, Address bias, Address stats, Address mask = 0) const {
        const int64_t sets = task.across ? task.c : task.n * task.groups;
        Task t = task;
        t.x = at<void>(x), t.residual = at<void>(residual), t.weight = at<void>(weight), t.bias = at<void>(bias);
        t.mean = at<double>(stats), t.var = t.mean + sets, t.count = t.var + sets, t.mask = at<uint8_t>(mask);
        return t;
    }

    void forward(Address x, Address residual, Address weight, Address bias, Address stats, Address y,
                 Address mask) const {
        Task t = of(x, residual, weight, bias, stats, mask);
        t.y = at<void>(y);
        run(chosen.kernels.forward, t);
    }

    void backward(Address x, Address residual, Address weight, Address bias, Address stats, Address dy, Address dx,
                  Address dresidual, Address dweight, Address dbias, Address mask,
                  bool from_output) const {
        Task t = of(x, residual, weight, bias, stats, mask);
        t.dy = at<void>(dy), t.dx = at<void>(dx), t.dresidual = at<void>(dresidual);
        t.dweight = at<void>(dweight), t.dbias = at<void>(dbias), t.from_output = from_output;
        run(chosen.kernels.backward, t);
    }

    // Backward where dy is not 0: then x is the gradient of the sum that is written first, and y that of the input.
    void dropout_norm(Address state, int threshold, double scale, Address x, Address residual, Address weight,
                      Address bias, Address sum, Address stats, Address y, Address dy, Address dsum, Address dweight,
                      Address dbias) const {
        const uint64_t *seed = at<uint64_t>(state), *stream = seed + 1;
        Task t = of(sum, 0, weight, bias, stats);
        t.y = at<void>(y), t.dy = at<void>(dy), t.dx = at<void>(x);
        t.dweight = at<void>(dweight), t.dbias = at<void>(dbias);
        const Dropout dropout{t.type, t.n * t.l, *seed, *stream, threshold, scale, 0, 0, at<void>(x), at<void>(residual),
                              at<void>(dy ? y : sum), t.threads};
        nb::gil_scoped_release release;
        if (!chosen.dropout_norm({dropout, t, at<void>(dsum)})) throw std::bad_alloc();
    }
};

// Running estimates of `n` channels, of type A, move by `momentum` towards a batch's mean and `correction` times its variance.
template <class A> void track(int64_t n, double momentum, double correction, const double* mean, const double* var,
                              A* running_mean, A* running_var) {
    for (int64_t c = 0; c < n; ++c) {
        running_mean[c] = A((1 - momentum) * double(running_mean[c]) + momentum * mean[c]);
        running_var[c] = A((1 - momentum) * double(running_var[c]) + momentum * (var[c] * correction));
    }
}

}  // namespace

NB_MODULE(_kernels, m) {
    m.def("instruction_sets", &instruction_sets, "What this CPU can run, the best first.");
    m.def("instruction_set", [] { return chosen.name; }, "What runs.");
    m.def("use", &use, nb::arg("instruction_set"));
    nb::class_<Plan>(m, "Plan")
        .def(nb::init<int, int, int, bool, bool, bool, int64_t, int64_t, int64_t, int64_t, double, int>())
        .def("forward", &Plan::forward)
        .def("backward", &Plan::backward)
        .def("dropout_norm", &Plan::dropout_norm);
    m.def("track", [](bool wide, int64_t n, double momentum, double correction, Address stats, Address running_mean,
                      Address running_var) {
        const double *batch_mean = at<double>(stats), *batch_var = batch_mean + n;
        if (wide) track(n, momentum, correction, batch_mean, batch_var, at<double>(running_mean), at<double>(running_var));
        else track(n, momentum, correction, batch_mean, batch_var, at<float>(running_mean), at<float>(running_var));
    });
    m.def("dropout", [](int type, int64_t n, Address state, int threshold, double scale, double shift, double fill,
                        int threads, Address x, Address residual, Address y) {
        const uint64_t *seed = at<uint64_t>(state), *stream = seed + 1;
        const Dropout t{type, n, *seed, *stream, threshold, scale, shift, fill, at<void>(x), at<void>(residual),
                        at<void>(y), threads < 1 ? 1 : threads};
        nb::gil_scoped_release release;
        chosen.dropout(t);
    });
    m.def("statistics", [](int type, bool columns, bool skip, int64_t n, int64_t c, int64_t l, int64_t example,
                           int64_t channel, int threads, Address x, Address count, Address mean, Address m2) {
        const Statistics t{type, columns, skip, n, c, l, example, channel, at<void>(x), at<double>(count),
                           at<double>(mean), at<double>(m2), threads < 1 ? 1 : threads};
        nb::gil_scoped_release release;
        if (!chosen.statistics(t)) throw std::bad_alloc();
    });
}
