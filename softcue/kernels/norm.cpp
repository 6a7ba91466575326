// norm(residual + dropout(x)), row by row, and its way back.
#include <cmath>

#include "vectors.h"
#include "work.h"

// As softcue/kernels/__init__.py declares it; rows lie one after another.
struct Norm {
    long rows, width;
    const void *x, *residual, *weight, *bias;
    float epsilon, rate;
    uint64_t seed;
    int32_t threads;
    void *total, *normed;  // the norm's input, and what it gives
    float *mean, *scale;   // (rows)
    // backward, from the gradient of `normed`
    const void *grad;
    void *to_x, *to_total;        // to_x: null where it would be to_total
    void *to_weight, *to_bias;    // or null
};

namespace {

// The vectors of a row, the last of which may be shorter.
template <typename T> struct Row {
    T *at;
    long width;
    INLINE long left(long width, long i) { return width - i < LANES ? width - i : LANES; }
    Floats get(long i) const { return left(width, i) == LANES ? load(at + i) : load_some(at + i, width - i); }
    void put(long i, Floats x) const {
        if (left(width, i) == LANES)
            store(at + i, x);
        else
            store_some(at + i, x, width - i);
    }
};

template <typename T> Row<const T> in(const void *numbers, long row, long width) { return {static_cast<const T *>(numbers) + row * width, width}; }
template <typename T> Row<T> out(void *numbers, long row, long width) { return {static_cast<T *>(numbers) + row * width, width}; }

// Minus the mean, 0 in lanes past the end.
INLINE Floats centred(Floats x, float mean, long left) {
    x -= mean;
    for (long i = left; i < LANES; i++) x[i] = 0;
    return x;
}

// T: the numbers of x; R: all others.
template <typename T, typename R> void forward(const Norm &call, long row, float *own) {
    Dropout drop{call.seed, call.rate};
    uint32_t key = drop.key(row);
    long width = call.width;
    auto x = in<T>(call.x, row, width);
    auto residual = in<R>(call.residual, row, width), weight = in<R>(call.weight, 0, width), bias = in<R>(call.bias, 0, width);
    auto total = out<R>(call.total, row, width), normed = out<R>(call.normed, row, width);
    Floats all{}, squares{};
    for (long i = 0; i < width; i += LANES) {
        Floats y = residual.get(i) + (call.rate > 0 ? x.get(i) * drop.factors(key, i) : x.get(i));
        total.put(i, y);
        store(own + i, y);
        all += y;
    }
    float mean = sum(all) / width;
    for (long i = 0; i < width; i += LANES) {
        Floats y = centred(load(own + i), mean, width - i);
        squares += y * y;
    }
    float scale = 1 / std::sqrt(sum(squares) / width + call.epsilon);
    for (long i = 0; i < width; i += LANES) normed.put(i, (load(own + i) - mean) * scale * weight.get(i) + bias.get(i));
    call.mean[row] = mean;
    call.scale[row] = scale;
}

template <typename T, typename R> void backward(const Norm &call, long row, float *own) {
    Dropout drop{call.seed, call.rate};
    uint32_t key = drop.key(row);
    long width = call.width;
    float mean = call.mean[row], scale = call.scale[row];
    auto grad = in<R>(call.grad, row, width), weight = in<R>(call.weight, 0, width), total = in<R>(call.total, row, width);
    auto to_x = out<T>(call.to_x, row, width);
    auto to_total = out<R>(call.to_total, row, width);
    Floats plain{}, along{};
    for (long i = 0; i < width; i += LANES) {
        Floats g = grad.get(i) * weight.get(i);
        store(own + i, g);
        plain += g;
        along += g * (total.get(i) - mean) * scale;  // lanes past the end have no gradient
    }
    float shift = sum(plain) / width, slope = sum(along) / width;
    for (long i = 0; i < width; i += LANES) {
        Floats to = scale * (load(own + i) - shift - (total.get(i) - mean) * scale * slope);
        to_total.put(i, to);
        if (call.to_x) to_x.put(i, call.rate > 0 ? to * drop.factors(key, i) : to);
    }
}

// The gradients of weight and bias in one vector of columns.
template <typename R> void parameters(const Norm &call, long number, Scratch) {
    long i = number * LANES, width = call.width;
    Floats to_weight{}, to_bias{};
    for (long row = 0; row < call.rows; row++) {
        Floats g = in<R>(call.grad, row, width).get(i);
        to_bias += g;
        to_weight += g * (in<R>(call.total, row, width).get(i) - call.mean[row]) * call.scale[row];
    }
    out<R>(call.to_weight, 0, width).put(i, to_weight);
    out<R>(call.to_bias, 0, width).put(i, to_bias);
}

constexpr long ROWS = 16;  // that one thread takes at a time

template <void (*work)(const Norm &, long, float *)> void rows(const Norm &call, long number, Scratch scratch) {
    for (long row = number * ROWS; row < (number + 1) * ROWS && row < call.rows; row++) work(call, row, scratch.next);
}

template <void (*work)(const Norm &, long, float *)> int all_rows(const Norm &call) {
    return share(call, (call.rows + ROWS - 1) / ROWS, padded(call.width), call.threads, rows<work>);
}

template <typename T, typename R> int back(const Norm &call) {
    int failed = all_rows<backward<T, R>>(call);
    return failed || !call.to_weight ? failed : share(call, padded(call.width) / LANES, 0, call.threads, parameters<R>);
}

}  // namespace

// kind: 0 float32 all, 1 bfloat16 all, 2 x is bfloat16 and all else float32.
extern "C" {
int norm_forward(const Norm *call, int kind) {
    return kind == 0 ? all_rows<forward<float, float>>(*call) : kind == 1 ? all_rows<forward<bfloat16, bfloat16>>(*call) : all_rows<forward<bfloat16, float>>(*call);
}
int norm_backward(const Norm *call, int kind) {
    return kind == 0 ? back<float, float>(*call) : kind == 1 ? back<bfloat16, bfloat16>(*call) : back<bfloat16, float>(*call);
}
}
