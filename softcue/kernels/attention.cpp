// Attention of ragged rows: each example's queries see its prefix and its own rows, read where they lie and written where they go.
// One example and head is one piece of work, done in float32 in a scratch of its own; what it gives depends on no other.
#include <cmath>

#include "products.h"
#include "work.h"

namespace {

constexpr long BLOCK = 36;  // queries at a time, so that their probabilities stay in the cache

}  // namespace

// As softcue/kernels/__init__.py declares it; strides are in numbers, and within a head numbers lie side by side.
struct Attention {
    long examples, heads, width, prefix;
    const int64_t *query_start, *key_start;  // (examples + 1) rows
    long query_row, key_row;                 // from one row to the next
    const void *query, *key, *value;
    long front_key_example, front_key_token, front_value_example, front_value_token;
    const void *front_key, *front_value;  // (examples, prefix, heads, width), or null
    const int64_t *front_count;           // (examples) how many of them an example has, or null: all
    const float *ahead;                   // (queries, heads, prefix) logits towards the prefix, or null: those of its keys
    const float *distance;                // what is added to a logit where key and query are the same row, one on where the key is the next, or null
    long distance_head;                   // from one head to the next
    float scale, rate;
    uint64_t seed;
    int32_t threads;
    // forward
    void *mixed;  // (queries, heads, width)
    float *total;  // (queries, heads): the logarithm of what each row's probabilities were divided by
    // backward
    const void *grad;                       // of mixed
    void *to_query, *to_key, *to_value;     // as query, key and value lie, or null
    void *to_front_key, *to_front_value;    // (examples, prefix, heads, width) side by side
    float *to_ahead;
};

namespace {

// What one example and head is about.
template <typename T> struct Piece {
    const Attention &call;
    long example, head;
    long first_query, queries, first_key, keys;  // rows
    long prefix, seen, seen_wide, wide;          // columns in front, and all that a query sees, and rounded up; the rounded width

    Piece(const Attention &call, long number)
        : call(call), example(number / call.heads), head(number % call.heads), first_query(call.query_start[example]),
          queries(call.query_start[example + 1] - first_query), first_key(call.key_start[example]),
          keys(call.key_start[example + 1] - first_key), prefix(call.front_count ? call.front_count[example] : call.prefix),
          seen(prefix + keys), seen_wide(padded(seen)), wide(padded(call.width)) {}

    Dropout dropout() const { return {call.seed, call.rate}; }
    long query_at(long row) const { return (first_query + row) * call.query_row + head * call.width; }
    long key_at(long row) const { return (first_key + row) * call.key_row + head * call.width; }
    long front_key_at(long token) const { return example * call.front_key_example + token * call.front_key_token + head * call.width; }
    long front_value_at(long token) const { return example * call.front_value_example + token * call.front_value_token + head * call.width; }
    long to_front_at(long token) const { return ((example * call.prefix + token) * call.heads + head) * call.width; }
    long mixed_at(long row) const { return ((first_query + row) * call.heads + head) * call.width; }
    long ahead_at(long row) const { return ((first_query + row) * call.heads + head) * call.prefix; }

    // The prefix's keys and the text's, one after another; zeros for those of the prefix where its logits are given.
    void read_keys(float *to) const {
        if (call.ahead) std::memset(to, 0, prefix * wide * sizeof(float));
        for (long j = 0; j < prefix && !call.ahead; j++) read_row(to + j * wide, static_cast<const T *>(call.front_key) + front_key_at(j), call.width);
        for (long j = 0; j < keys; j++) read_row(to + (prefix + j) * wide, static_cast<const T *>(call.key) + key_at(j), call.width);
    }

    void read_values(float *to) const {
        for (long j = 0; j < prefix; j++) read_row(to + j * wide, static_cast<const T *>(call.front_value) + front_value_at(j), call.width);
        for (long j = 0; j < keys; j++) read_row(to + (prefix + j) * wide, static_cast<const T *>(call.value) + key_at(j), call.width);
    }

    // Logits of `count` queries from `first` on, -inf in the columns that only fill the last vector.
    void logits(float *to, float *query, const float *key_across, long first, long count) const {
        for (long i = 0; i < count; i++) read_row(query + i * wide, static_cast<const T *>(call.query) + query_at(first + i), call.width, call.scale);
        multiply(count, seen_wide, call.width, {query, wide, 1}, key_across, seen_wide, to, seen_wide, false);
        for (long i = 0; i < count; i++) {
            if (call.ahead) std::memcpy(to + i * seen_wide, call.ahead + ahead_at(first + i), prefix * sizeof(float));
            if (call.distance) {
                const float *added = call.distance + head * call.distance_head - (first + i);
                for (long j = 0; j < keys; j++) to[i * seen_wide + prefix + j] += added[j];
            }
            for (long j = seen; j < seen_wide; j++) to[i * seen_wide + j] = -INFINITY;
        }
    }

    // Numbers of scratch that the longest example asks for.
    static long room(const Attention &call, long keys) {
        long seen = padded(call.prefix + keys), wide = padded(call.width);
        return 6 * seen * wide + BLOCK * (2 * seen + 3 * wide) + seen;
    }

    void forward(Scratch scratch) const {
        float *key = scratch.take(seen_wide * wide), *key_across = scratch.take(seen_wide * wide), *value = scratch.take(seen_wide * wide);
        float *query = scratch.take(BLOCK * wide), *chance = scratch.take(BLOCK * seen_wide), *mixed = scratch.take(BLOCK * wide);
        read_keys(key);
        transpose(key_across, key, seen, seen_wide, wide);
        read_values(value);
        for (long first = 0; first < queries; first += BLOCK) {
            long count = queries - first < BLOCK ? queries - first : BLOCK;
            logits(chance, query, key_across, first, count);
            for (long i = 0; i < count; i++) soften(chance + i * seen_wide, first + i);
            multiply(count, wide, seen, {chance, seen_wide, 1}, value, wide, mixed, wide, false);
            for (long i = 0; i < count; i++) write_row(static_cast<T *>(call.mixed) + mixed_at(first + i), mixed + i * wide, call.width);
        }
    }

    // Logits to probabilities, with dropout, where they stand.
    void soften(float *row, long number) const {
        Floats most = load(row);
        for (long j = LANES; j < seen_wide; j += LANES) most = larger(load(row + j), most);
        float top = largest(most);
        Floats totals{};
        for (long j = 0; j < seen_wide; j += LANES) {
            Floats x = exponential(load(row + j) - top);
            totals += x;
            store(row + j, x);
        }
        float all = sum(totals);
        long place = (first_query + number) * call.heads + head;
        call.total[place] = top + std::log(all);
        Dropout drop = dropout();
        uint32_t key = drop.key(place);
        for (long j = 0; j < seen_wide; j += LANES) {
            Floats x = load(row + j) * (1 / all);
            store(row + j, call.rate > 0 ? x * drop.factors(key, j) : x);
        }
    }

    void backward(Scratch scratch) const {
        long area = seen_wide * wide;
        float *key = scratch.take(area), *key_across = scratch.take(area), *value = scratch.take(area), *value_across = scratch.take(area);
        float *to_key = scratch.take(area), *to_value = scratch.take(area);
        float *query = scratch.take(BLOCK * wide), *grad = scratch.take(BLOCK * wide), *to_query = scratch.take(BLOCK * wide);
        float *chance = scratch.take(BLOCK * seen_wide), *to_chance = scratch.take(BLOCK * seen_wide), *kept = scratch.take(seen_wide);
        read_keys(key);
        transpose(key_across, key, seen, seen_wide, wide);
        read_values(value);
        transpose(value_across, value, seen, seen_wide, wide);
        long asked = call.to_key ? seen : prefix;  // the prefix stands first
        long own = call.ahead ? prefix : 0;        // columns whose logits are not of keys
        for (long first = 0; first < queries; first += BLOCK) {
            long count = queries - first < BLOCK ? queries - first : BLOCK;
            logits(chance, query, key_across, first, count);
            for (long i = 0; i < count; i++) read_row(grad + i * wide, static_cast<const T *>(call.grad) + mixed_at(first + i), call.width);
            multiply(count, seen_wide, call.width, {grad, wide, 1}, value_across, seen_wide, to_chance, seen_wide, false);
            for (long i = 0; i < count; i++) harden(chance + i * seen_wide, to_chance + i * seen_wide, kept, first + i);
            multiply(asked, wide, count, {chance, 1, seen_wide}, grad, wide, to_value, wide, first > 0);
            multiply(asked, wide, count, {to_chance, 1, seen_wide}, query, wide, to_key, wide, first > 0);
            for (long i = 0; i < count && call.to_ahead; i++)
                std::memcpy(call.to_ahead + ahead_at(first + i), to_chance + i * seen_wide, prefix * sizeof(float));
            if (!call.to_query) continue;
            multiply(count, wide, seen - own, {to_chance + own, seen_wide, 1}, key + own * wide, wide, to_query, wide, false);
            for (long i = 0; i < count; i++)
                write_row(static_cast<T *>(call.to_query) + query_at(first + i), to_query + i * wide, call.width, call.scale);
        }
        for (long j = 0; j < prefix; j++) {
            if (call.to_front_key) write_row(static_cast<T *>(call.to_front_key) + to_front_at(j), to_key + j * wide, call.width);
            if (call.to_front_value) write_row(static_cast<T *>(call.to_front_value) + to_front_at(j), to_value + j * wide, call.width);
        }
        for (long j = prefix; j < call.prefix; j++) {
            if (call.to_front_key) std::memset(static_cast<T *>(call.to_front_key) + to_front_at(j), 0, call.width * sizeof(T));
            if (call.to_front_value) std::memset(static_cast<T *>(call.to_front_value) + to_front_at(j), 0, call.width * sizeof(T));
        }
        for (long j = 0; j < keys && call.to_key; j++) {
            write_row(static_cast<T *>(call.to_key) + key_at(j), to_key + (prefix + j) * wide, call.width);
            write_row(static_cast<T *>(call.to_value) + key_at(j), to_value + (prefix + j) * wide, call.width);
        }
    }

    // Logits to probabilities with dropout, and the gradient of those to that of the logits, both where they stand.
    void harden(float *row, float *to_row, float *kept, long number) const {
        long place = (first_query + number) * call.heads + head;
        float total = call.total[place];
        Dropout drop = dropout();
        uint32_t key = drop.key(place);
        Floats weighted{};
        for (long j = 0; j < seen_wide; j += LANES) {
            Floats factor = call.rate > 0 ? drop.factors(key, j) : Floats{} + 1;
            Floats chance = exponential(load(row + j) - total);
            weighted += chance * factor * load(to_row + j);
            store(kept + j, factor);
            store(row + j, chance);
        }
        float mean = sum(weighted);
        for (long j = 0; j < seen_wide; j += LANES) {
            Floats chance = load(row + j), seen = chance * load(kept + j);
            store(to_row + j, seen * load(to_row + j) - chance * mean);
            store(row + j, seen);
        }
    }
};

// Logits of each query towards its example's prefix alone.
template <typename T> void forward_ahead(const Attention &call, long number, Scratch scratch) {
    Piece<T> piece(call, number);
    long tokens = padded(call.prefix), wide = piece.wide;
    float *key = scratch.take(tokens * wide), *key_across = scratch.take(tokens * wide);
    float *query = scratch.take(BLOCK * wide), *ahead = scratch.take(BLOCK * tokens);
    for (long j = 0; j < call.prefix; j++) read_row(key + j * wide, static_cast<const T *>(call.front_key) + piece.front_key_at(j), call.width, call.scale);
    transpose(key_across, key, call.prefix, tokens, wide);
    for (long first = 0; first < piece.queries; first += BLOCK) {
        long count = piece.queries - first < BLOCK ? piece.queries - first : BLOCK;
        for (long i = 0; i < count; i++) read_row(query + i * wide, static_cast<const T *>(call.query) + piece.query_at(first + i), call.width);
        multiply(count, tokens, call.width, {query, wide, 1}, key_across, tokens, ahead, tokens, false);
        for (long i = 0; i < count; i++) std::memcpy(call.to_ahead + piece.ahead_at(first + i), ahead + i * tokens, call.prefix * sizeof(float));
    }
}

// Their way back; the queries' gradient is added to what is there.
template <typename T> void backward_ahead(const Attention &call, long number, Scratch scratch) {
    Piece<T> piece(call, number);
    long tokens = padded(call.prefix), wide = piece.wide;
    float *key = scratch.take(tokens * wide), *to_key = scratch.take(tokens * wide);
    float *query = scratch.take(BLOCK * wide), *to_query = scratch.take(BLOCK * wide), *ahead = scratch.take(BLOCK * tokens);
    for (long j = 0; j < call.prefix; j++) read_row(key + j * wide, static_cast<const T *>(call.front_key) + piece.front_key_at(j), call.width, call.scale);
    for (long first = 0; first < piece.queries; first += BLOCK) {
        long count = piece.queries - first < BLOCK ? piece.queries - first : BLOCK;
        for (long i = 0; i < count; i++) {
            read_row(query + i * wide, static_cast<const T *>(call.query) + piece.query_at(first + i), call.width, call.scale);
            std::memcpy(ahead + i * tokens, call.ahead + piece.ahead_at(first + i), call.prefix * sizeof(float));
        }
        multiply(call.prefix, wide, count, {ahead, 1, tokens}, query, wide, to_key, wide, first > 0);
        if (!call.to_query) continue;
        for (long i = 0; i < count; i++) read_row(to_query + i * wide, static_cast<T *>(call.to_query) + piece.query_at(first + i), call.width);
        multiply(count, wide, call.prefix, {ahead, tokens, 1}, key, wide, to_query, wide, true);
        for (long i = 0; i < count; i++) write_row(static_cast<T *>(call.to_query) + piece.query_at(first + i), to_query + i * wide, call.width);
    }
    for (long j = 0; j < call.prefix; j++) write_row(static_cast<T *>(call.to_front_key) + piece.to_front_at(j), to_key + j * wide, call.width);
}

template <typename T> void forward(const Attention &call, long number, Scratch scratch) { Piece<T>(call, number).forward(scratch); }
template <typename T> void backward(const Attention &call, long number, Scratch scratch) { Piece<T>(call, number).backward(scratch); }

long room(const Attention &call) {
    long most = 0;
    for (long i = 0; i < call.examples; i++) {
        long keys = call.key_start[i + 1] - call.key_start[i];
        most = keys > most ? keys : most;
    }
    return Piece<float>::room(call, most);
}

int run(const Attention &call, void (*work)(const Attention &, long, Scratch)) {
    return share(call, call.examples * call.heads, room(call), call.threads, work);
}

}  // namespace

extern "C" {
int attention_forward(const Attention *call, int half) { return run(*call, half ? forward<bfloat16> : forward<float>); }
int attention_backward(const Attention *call, int half) { return run(*call, half ? backward<bfloat16> : backward<float>); }
int ahead_forward(const Attention *call, int half) { return run(*call, half ? forward_ahead<bfloat16> : forward_ahead<float>); }
int ahead_backward(const Attention *call, int half) { return run(*call, half ? backward_ahead<bfloat16> : backward_ahead<float>); }
}
