// y + scale x A B, where A and B are each seat's own and thin: LoRA's product, and its way back.
#include "products.h"
#include "work.h"

// As softcue/kernels/__init__.py declares it; strides are in numbers, and within a row numbers lie side by side.
struct Thin {
    long blocks, runs, inputs, outputs, rank;
    const int64_t *block, *run;  // (.., 3) seat, first row, one past the last; a block has few rows
    const void *x, *y;
    void *made;                   // y where it stands, or (rows, outputs)
    long x_row, y_row, made_row;  // from one row to the next
    const void *shrink, *grow;    // A (seats, inputs, rank), B (seats, rank, outputs)
    long shrink_seat, grow_seat;  // from one seat to the next
    const float *scale;           // (seats)
    float *thin;                  // (rows, rank rounded up to whole vectors): scale x A; or null
    // backward
    const void *grad;  // of what was made
    long grad_row;
    float *to_thin;               // as thin: the gradient of x A
    void *to_x;                   // (rows, inputs), or null
    float *to_shrink, *to_grow;   // as the tables, side by side; added to
    int32_t threads;
};

namespace {

constexpr long ROWS = 64, COLUMNS = 64;  // of a block, and of a part of a table's gradient

// A table of one seat, (rows, columns), zeros to the end of whole vectors both ways.
template <typename W> void read_table(float *to, const void *table, long seat, long step, long rows, long columns) {
    long wide = padded(columns);
    const W *own = static_cast<const W *>(table) + seat * step;
    for (long i = 0; i < rows; i++) read_row(to + i * wide, own + i * columns, columns);
    std::memset(to + rows * wide, 0, (padded(rows) - rows) * wide * sizeof(float));
}

template <typename T, typename W> void forward(const Thin &call, long number, Scratch scratch) {
    const int64_t seat = call.block[3 * number], first = call.block[3 * number + 1], count = call.block[3 * number + 2] - first;
    long in = padded(call.inputs), out = padded(call.outputs), wide = padded(call.rank);
    float *x = scratch.take(ROWS * in), *shrink = scratch.take(in * wide), *grow = scratch.take(wide * out);
    float *thin = scratch.take(ROWS * wide), *made = scratch.take(ROWS * out);
    read_table<W>(shrink, call.shrink, seat, call.shrink_seat, call.inputs, call.rank);
    read_table<W>(grow, call.grow, seat, call.grow_seat, call.rank, call.outputs);
    for (long i = 0; i < count; i++) {
        read_row(x + i * in, static_cast<const T *>(call.x) + (first + i) * call.x_row, call.inputs, call.scale[seat]);
        read_row(made + i * out, static_cast<const T *>(call.y) + (first + i) * call.y_row, call.outputs);
    }
    multiply(count, wide, call.inputs, {x, in, 1}, shrink, wide, thin, wide, false);
    if (call.thin) std::memcpy(call.thin + first * wide, thin, count * wide * sizeof(float));
    multiply(count, out, call.rank, {thin, wide, 1}, grow, out, made, out, true);
    for (long i = 0; i < count; i++) write_row(static_cast<T *>(call.made) + (first + i) * call.made_row, made + i * out, call.outputs);
}

template <typename T, typename W> void backward(const Thin &call, long number, Scratch scratch) {
    const int64_t seat = call.block[3 * number], first = call.block[3 * number + 1], count = call.block[3 * number + 2] - first;
    long in = padded(call.inputs), out = padded(call.outputs), wide = padded(call.rank);
    float *grad = scratch.take(ROWS * out), *grow = scratch.take(wide * out), *grow_across = scratch.take(out * wide);
    float *shrink = scratch.take(in * wide), *shrink_across = scratch.take(wide * in), *to_x = scratch.take(ROWS * in);
    float *to_thin = call.to_thin + first * wide;
    read_table<W>(grow, call.grow, seat, call.grow_seat, call.rank, call.outputs);
    transpose(grow_across, grow, call.rank, wide, out);
    for (long i = 0; i < count; i++)
        read_row(grad + i * out, static_cast<const T *>(call.grad) + (first + i) * call.grad_row, call.outputs, call.scale[seat]);
    multiply(count, wide, call.outputs, {grad, out, 1}, grow_across, wide, to_thin, wide, false);
    if (!call.to_x) return;
    read_table<W>(shrink, call.shrink, seat, call.shrink_seat, call.inputs, call.rank);
    transpose(shrink_across, shrink, call.inputs, in, wide);
    multiply(count, in, call.rank, {to_thin, wide, 1}, shrink_across, in, to_x, in, false);
    for (long i = 0; i < count; i++) write_row(static_cast<T *>(call.to_x) + (first + i) * call.inputs, to_x + i * in, call.inputs);
}

// Some columns of x or of the gradient, beside `thin` numbers of their rows, summed over the rows of each run.
template <typename T> struct Part {
    const Thin &call;
    long column, columns;

    void sum(const int64_t *run, const void *from, long row, const float *thin, float *total, float *own, bool across) const {
        long wide = padded(call.rank), tall = padded(columns);
        for (long first = run[1]; first < run[2]; first += ROWS) {
            long count = run[2] - first < ROWS ? run[2] - first : ROWS;
            for (long i = 0; i < count; i++) read_row(own + i * tall, static_cast<const T *>(from) + (first + i) * row + column, columns);
            const float *beside = thin + first * wide;
            if (across)
                multiply(columns, wide, count, {own, 1, tall}, beside, wide, total, wide, first > run[1]);
            else
                multiply(call.rank, tall, count, {beside, 1, wide}, own, tall, total, tall, first > run[1]);
        }
    }

    void to_shrink(Scratch scratch) const {
        float *own = scratch.take(ROWS * COLUMNS), *total = scratch.take(COLUMNS * padded(call.rank));
        for (long r = 0; r < call.runs; r++) {
            const int64_t *run = call.run + 3 * r;
            sum(run, call.x, call.x_row, call.to_thin, total, own, true);
            float *to = call.to_shrink + (run[0] * call.inputs + column) * call.rank;
            for (long i = 0; i < columns; i++)
                for (long j = 0; j < call.rank; j++) to[i * call.rank + j] += total[i * padded(call.rank) + j];
        }
    }

    void to_grow(Scratch scratch) const {
        float *own = scratch.take(ROWS * COLUMNS), *total = scratch.take(call.rank * COLUMNS);
        for (long r = 0; r < call.runs; r++) {
            const int64_t *run = call.run + 3 * r;
            sum(run, call.grad, call.grad_row, call.thin, total, own, false);
            float *to = call.to_grow + run[0] * call.rank * call.outputs + column;
            for (long i = 0; i < call.rank; i++)
                for (long j = 0; j < columns; j++) to[i * call.outputs + j] += total[i * padded(columns) + j];
        }
    }
};

long parts(long width) { return (width + COLUMNS - 1) / COLUMNS; }

template <typename T> void tables(const Thin &call, long number, Scratch scratch) {
    bool shrinks = number < parts(call.inputs);
    long width = shrinks ? call.inputs : call.outputs, column = (shrinks ? number : number - parts(call.inputs)) * COLUMNS;
    Part<T> part{call, column, width - column < COLUMNS ? width - column : COLUMNS};
    shrinks ? part.to_shrink(scratch) : part.to_grow(scratch);
}

long room(const Thin &call) {
    long in = padded(call.inputs), out = padded(call.outputs), wide = padded(call.rank);
    return 2 * (in + out) * wide + ROWS * (in + out + wide) + (ROWS + wide) * COLUMNS;
}

template <typename T, typename W> int there(const Thin &call) { return share(call, call.blocks, room(call), call.threads, forward<T, W>); }
template <typename T, typename W> int back(const Thin &call) {
    int failed = share(call, call.blocks, room(call), call.threads, backward<T, W>);
    return failed ? failed : share(call, parts(call.inputs) + parts(call.outputs), room(call), call.threads, tables<T>);
}

}  // namespace

// kind: 0 float32 all, 1 bfloat16 all, 2 bfloat16 rows and float32 tables.
extern "C" {
int thin_forward(const Thin *call, int kind) {
    return kind == 0 ? there<float, float>(*call) : kind == 1 ? there<bfloat16, bfloat16>(*call) : there<bfloat16, float>(*call);
}
int thin_backward(const Thin *call, int kind) {
    return kind == 0 ? back<float, float>(*call) : kind == 1 ? back<bfloat16, bfloat16>(*call) : back<bfloat16, float>(*call);
}
}
