// gelu(x) = x P(X < x), X normally distributed, and its slope: both from one exponential.
#include "vectors.h"
#include "work.h"

// As softcue/kernels/__init__.py declares it; numbers lie one after another, and the slope may be null.
struct Gelu {
    long count;
    const void *x;
    void *y, *slope;
    int32_t threads;
};

namespace {

constexpr long CHUNK = 8192;  // numbers that one thread takes at a time

// Abramowitz and Stegun 7.1.26: the error function to 1.5e-7.
INLINE void gelu(Floats x, Floats *y, Floats *slope) {
    Floats size = x < 0 ? -x : x;
    Floats bell = exponential(x * x * -0.5f);
    Floats t = 1 / (1 + size * (0.3275911f * 0.70710678f));
    Floats p = t * 1.061405429f - 1.453152027f;
    p = p * t + 1.421413741f;
    p = p * t - 0.284496736f;
    p = p * t + 0.254829592f;
    Floats tail = p * t * bell * 0.5f;  // beyond |x|
    Floats below = x < 0 ? tail : 1 - tail;
    *y = x * below;
    *slope = below + x * bell * 0.39894228f;
}

template <typename T> void chunk(const Gelu &call, long number, Scratch) {
    const T *x = static_cast<const T *>(call.x);
    T *y = static_cast<T *>(call.y), *slope = static_cast<T *>(call.slope);
    long i = number * CHUNK, end = i + CHUNK < call.count ? i + CHUNK : call.count;
    Floats value, rise;
    for (; i + LANES <= end; i += LANES) {
        gelu(load(x + i), &value, &rise);
        store(y + i, value);
        if (slope) store(slope + i, rise);
    }
    if (i < end) {
        gelu(load_some(x + i, end - i), &value, &rise);
        store_some(y + i, value, end - i);
        if (slope) store_some(slope + i, rise, end - i);
    }
}

}  // namespace

extern "C" int gelu_forward(const Gelu *call, int half) {
    return share(*call, (call->count + CHUNK - 1) / CHUNK, 0, call->threads, half ? chunk<bfloat16> : chunk<float>);
}
