// Numbers as the kernels compute with them: float32 in vectors, whatever lies in memory.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX512F__) || defined(WIDE)  // WIDE: what AVX-512 computes, on a processor without it
constexpr long LANES = 16;
#else
constexpr long LANES = 8;
#endif

typedef float Floats __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef uint32_t Words __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef int32_t Ints __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef uint16_t Halves __attribute__((vector_size(LANES * 2), aligned(2), may_alias));

#define INLINE static inline __attribute__((always_inline))

struct bfloat16 {
    uint16_t bits;
};

INLINE long padded(long count) { return (count + LANES - 1) / LANES * LANES; }

INLINE Floats load(const float *from) { return *reinterpret_cast<const Floats *>(from); }
INLINE void store(float *to, Floats x) { *reinterpret_cast<Floats *>(to) = x; }

INLINE Floats load(const bfloat16 *from) {
    Words wide = __builtin_convertvector(*reinterpret_cast<const Halves *>(from), Words) << 16;
    return reinterpret_cast<Floats>(wide);
}

// To the nearest, ties to even; what is not a number stays so.
INLINE void store(bfloat16 *to, Floats x) {
    Words bits = reinterpret_cast<Words>(x);
    Words rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    rounded = x == x ? rounded : Words{} + 0x7fc0;
    *reinterpret_cast<Halves *>(to) = __builtin_convertvector(rounded, Halves);
}

// Of the first `count` lanes, or of all.
template <typename T> INLINE Floats load_some(const T *from, long count) {
    if (count >= LANES) return load(from);
    T whole[LANES] = {};
    std::memcpy(whole, from, count * sizeof(T));
    return load(whole);
}

template <typename T> INLINE void store_some(T *to, Floats x, long count) {
    if (count >= LANES) return store(to, x);
    T whole[LANES];
    store(whole, x);
    std::memcpy(to, whole, count * sizeof(T));
}

// A row of `count` numbers; the rest of the last vector is zeros.
template <typename T> INLINE void read_row(float *to, const T *from, long count, float factor = 1) {
    long i = 0;
    for (; i + LANES <= count; i += LANES) store(to + i, load(from + i) * factor);
    if (i < count) store(to + i, load_some(from + i, count - i) * factor);
}

template <typename T> INLINE void write_row(T *to, const float *from, long count, float factor = 1) {
    long i = 0;
    for (; i + LANES <= count; i += LANES) store(to + i, load(from + i) * factor);
    if (i < count) store_some(to + i, load(from + i) * factor, count - i);
}

INLINE Floats larger(Floats a, Floats b) { return a > b ? a : b; }

INLINE float sum(Floats x) {
    float total = 0;
    for (long i = 0; i < LANES; i++) total += x[i];
    return total;
}

INLINE float largest(Floats x) {
    float most = x[0];
    for (long i = 1; i < LANES; i++) most = x[i] > most ? x[i] : most;
    return most;
}

// exp(x) for x <= 0 to about a unit in the last place (Cephes' expf); 0 below the least normal number.
INLINE Floats exponential(Floats x) {
    Floats turns = x * 1.44269504088896341f;
    Ints whole = __builtin_convertvector(turns - 0.5f, Ints);  // towards zero: to the nearest, x being negative
    Floats n = __builtin_convertvector(whole, Floats);
    Floats r = x - n * 0.693359375f + n * 2.12194440e-4f;
    Floats p = Floats{} + 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1;
    Floats power = reinterpret_cast<Floats>((whole + 127) << 23);
    return x < -87 ? Floats{} : p * power;
}

// Dropout's factors of LANES numbers from `first` on: 0 with the chance `rate`, else 1 / (1 - rate); the same numbers for the same key.
struct Dropout {
    uint64_t seed;
    float rate;

    INLINE uint32_t least(float rate) { return static_cast<uint32_t>(static_cast<double>(rate) * 4294967296.0); }

    // Of one row of numbers.
    inline uint32_t key(uint64_t row) const {
        uint64_t x = seed + row * 0x9e3779b97f4a7c15u;  // splitmix64
        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
        x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
        return static_cast<uint32_t>((x ^ (x >> 31)) >> 32);
    }

    inline Floats factors(uint32_t key, long first) const {
        static const uint32_t LANE[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
        Words x = (*reinterpret_cast<const Words *>(LANE) + static_cast<uint32_t>(first)) * 0x9e3779b9u + key;  // then Wellons' lowbias32
        x ^= x >> 16;
        x *= 0x7feb352du;
        x ^= x >> 15;
        x *= 0x846ca68bu;
        x ^= x >> 16;
        return x >= least(rate) ? Floats{} + 1 / (1 - rate) : Floats{};
    }
};
