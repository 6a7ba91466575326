// GELU and its slope, of numbers that lie one after another.
#include "gelu.h"
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
