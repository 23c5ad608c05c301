// Chooses the instruction set and presents the kernels to Python. Tensors are asked for their address as Python asks, so
// that one build serves every version of torch; the caller vouches for their types and layouts.
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
using namespace nb::literals;

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

using Tensor = nb::handle;
auto maybe(const char* name) { return nb::arg(name).none(); }

// Where a tensor's values are; null for None.
template <class T> T* at(Tensor tensor) {
    static PyObject* const method = PyUnicode_InternFromString("data_ptr");
    if (tensor.is_none()) return nullptr;
    const nb::object address = nb::steal(PyObject_CallMethodNoArgs(tensor.ptr(), method));
    if (!address.is_valid()) throw nb::python_error();
    return reinterpret_cast<T*>(nb::cast<uintptr_t>(address));
}

void run(bool (*kernel)(const Task&), const Task& task) {
    nb::gil_scoped_release release;
    if (!kernel(task)) throw std::bad_alloc();
}

// A norm of tensors of one shape and type: made once, and called with the tensors. `stats` are the means of all sets,
// then their variances and, with a mask, their counts.
struct Plan {
    Task task{};

    Plan(int layout, int type, int activation, bool across, bool center, bool given, int64_t n, int64_t c, int64_t l,
         int64_t groups, double eps, int threads) {
        task.layout = layout, task.type = type, task.activation = activation;
        task.across = across, task.center = center, task.given = given;
        task.n = n, task.c = c, task.l = l, task.groups = groups, task.eps = eps;
        task.threads = threads < 1 ? 1 : threads;
    }

    Task of(Tensor x, Tensor residual, Tensor weight, Tensor bias, Tensor stats, Tensor mask) const {
        const int64_t sets = task.across ? task.c : task.n * task.groups;
        Task t = task;
        t.x = at<void>(x), t.residual = at<void>(residual), t.weight = at<void>(weight), t.bias = at<void>(bias);
        t.mean = at<double>(stats), t.var = t.mean + sets, t.count = t.var + sets, t.mask = at<uint8_t>(mask);
        return t;
    }

    void forward(Tensor x, Tensor residual, Tensor weight, Tensor bias, Tensor stats, Tensor y,
                 Tensor mask) const {
        Task t = of(x, residual, weight, bias, stats, mask);
        t.y = at<void>(y);
        run(chosen.kernels.forward, t);
    }

    void backward(Tensor x, Tensor residual, Tensor weight, Tensor bias, Tensor stats, Tensor dy, Tensor dx,
                  Tensor dresidual, Tensor dweight, Tensor dbias, Tensor mask, bool from_output) const {
        Task t = of(x, residual, weight, bias, stats, mask);
        t.dy = at<void>(dy), t.dx = at<void>(dx), t.dresidual = at<void>(dresidual);
        t.dweight = at<void>(dweight), t.dbias = at<void>(dbias), t.from_output = from_output;
        run(chosen.kernels.backward, t);
    }

    // Backward where dy is not None: then x is the gradient of the sum that is written first, and y that of the input.
    void dropout_norm(Tensor state, int threshold, double scale, Tensor x, Tensor residual, Tensor weight,
                      Tensor bias, Tensor sum, Tensor stats, Tensor y, Tensor dy, Tensor dsum, Tensor dweight,
                      Tensor dbias) const {
        const uint64_t *seed = at<uint64_t>(state), *stream = seed + 1;
        Task t = of(sum, nb::none(), weight, bias, stats, nb::none());
        t.y = at<void>(y), t.dy = at<void>(dy), t.dx = at<void>(x);
        t.dweight = at<void>(dweight), t.dbias = at<void>(dbias);
        const Dropout dropout{t.type,      t.n * t.l, *seed, *stream,
                              threshold,   scale,     0,     0,
                              at<void>(x), at<void>(residual), at<void>(dy.is_none() ? sum : y), t.threads};
        const DropoutNorm both{dropout, t, at<void>(dsum)};
        nb::gil_scoped_release release;
        if (!chosen.dropout_norm(both)) throw std::bad_alloc();
    }
};

// Running estimates of `n` channels move by `momentum` towards a batch's mean and `correction` times its variance.
template <class A> void track(int64_t n, double momentum, double correction, const double* mean, Tensor means,
                              Tensor variances) {
    const double* var = mean + n;
    A *running_mean = at<A>(means), *running_var = at<A>(variances);
    for (int64_t c = 0; c < n; ++c) {
        running_mean[c] = A((1 - momentum) * double(running_mean[c]) + momentum * mean[c]);
        running_var[c] = A((1 - momentum) * double(running_var[c]) + momentum * (var[c] * correction));
    }
}

}  // namespace

NB_MODULE(_kernels, m) {
    nb::set_leak_warnings(false);  // a tensor that lives until the interpreter ends keeps its plan
    m.def("instruction_sets", &instruction_sets, "What this CPU can run, the best first.");
    m.def("instruction_set", [] { return chosen.name; }, "What runs.");
    m.def("use", &use, nb::arg("instruction_set"));
    nb::class_<Plan>(m, "Plan")
        .def(nb::init<int, int, int, bool, bool, bool, int64_t, int64_t, int64_t, int64_t, double, int>())
        .def("forward", &Plan::forward, "x"_a, maybe("residual"), maybe("weight"), maybe("bias"), "stats"_a, "y"_a,
             maybe("mask"))
        .def("backward", &Plan::backward, "x"_a, maybe("residual"), maybe("weight"), maybe("bias"), "stats"_a, "dy"_a,
             "dx"_a, maybe("dresidual"), maybe("dweight"), maybe("dbias"), maybe("mask"), "from_output"_a)
        .def("dropout_norm", &Plan::dropout_norm, "state"_a, "threshold"_a, "scale"_a, "x"_a, maybe("residual"),
             maybe("weight"), maybe("bias"), "sum"_a, "stats"_a, "y"_a, maybe("dy"), maybe("dsum"), maybe("dweight"),
             maybe("dbias"));
    m.def("track", [](bool wide, int64_t n, double momentum, double correction, Tensor stats, Tensor running_mean,
                      Tensor running_var) {
        (wide ? track<double> : track<float>)(n, momentum, correction, at<double>(stats), running_mean, running_var);
    });
    m.def("dropout", [](int type, int64_t n, Tensor state, int threshold, double scale, double shift, double fill,
                        int threads, Tensor x, Tensor residual, Tensor y) {
        const uint64_t *seed = at<uint64_t>(state), *stream = seed + 1;
        const Dropout t{type, n, *seed, *stream, threshold, scale, shift, fill, at<void>(x), at<void>(residual),
                        at<void>(y), threads < 1 ? 1 : threads};
        nb::gil_scoped_release release;
        chosen.dropout(t);
    }, "type"_a, "n"_a, "state"_a, "threshold"_a, "scale"_a, "shift"_a, "fill"_a, "threads"_a, maybe("x"),
          maybe("residual"), "y"_a);
    m.def("statistics", [](int type, bool columns, bool skip, int64_t n, int64_t c, int64_t l, int64_t example,
                           int64_t channel, int threads, Tensor x, Tensor moments) {
        double* count = at<double>(moments);  // then mean and M2
        const Statistics t{type, columns, skip, n, c, l, example, channel, at<void>(x), count, count + c, count + 2 * c,
                           threads < 1 ? 1 : threads};
        nb::gil_scoped_release release;
        if (!chosen.statistics(t)) throw std::bad_alloc();
    });
}
