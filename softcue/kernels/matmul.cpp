// Products of rows with a weight that lies as nn.Linear holds it: y = x W^T, or the way back y = x W, with what goes before and after.
//
// A panel of the weight, as deep as stays in the cache, is laid out anew for each block of rows: that is one pass for up to ROWS rows.
// For few rows, of which that pass would be a third of the time, matmul_lay lays a weight out beforehand. A number of y is summed up in
// one order, whatever rows are beside it.
#include "gelu.h"
#include "products.h"
#include "work.h"

// As softcue/kernels/__init__.py declares it.
struct Matmul {
    long rows, depth, columns;  // of y: (rows, columns); of x: (rows, depth)
    const float *x;
    long x_row;
    const float *weight;  // (columns, depth); on the way back (depth, columns); or panels, if it is laid out
    long weight_row, back, laid;
    const float *bias;    // (columns,) that is added, or null
    const float *beside;  // (rows, columns) that is added, or null
    long beside_row;
    const float *factor;  // (rows, columns), numbers one after another, of which y is a multiple, or null
    long active;          // whether y is GELU of the sum
    float *slope, *y;     // (rows, columns), numbers one after another; the slope of GELU, or null
    int32_t threads;
};

namespace {

constexpr long PANEL = 2 * LANES;    // columns that are made together
constexpr long DEEP = 3072 / LANES;  // of a panel: 24 KB
constexpr long ROWS = 128 * TALL;    // that share a panel
constexpr long ALIGNED = 16;         // numbers of a line of the cache

// Of one panel and its rows: where they are in y, and where they are summed up.
struct Block {
    long row, rows, first, columns;
    bool whole;  // else the last vector has more lanes than there are columns, and the block is made apart
    float *to;
    long to_row;
};

// The length of each of as few parts as `most` allows, all of much the same length.
long even(long total, long most, long step) {
    long parts = (total + most - 1) / most;
    long each = (total + parts - 1) / parts;
    return (each + step - 1) / step * step;
}

// panel[l, n] = W[n, l] of a weight that is (columns, depth).
INLINE void lay_across(float *panel, const float *from, long row, long depth, long columns, long wide) {
    long whole = columns / 8 * 8, deep = depth / 8 * 8;
    for (long l = 0; l < deep; l += 8)
        for (long n = 0; n < whole; n += 8) across(panel + l * wide + n, wide, from + n * row + l, row);
    for (long n = 0; n < columns; n++)
        for (long l = n < whole ? deep : 0; l < depth; l++) panel[l * wide + n] = from[n * row + l];
}

// panel[l, n] = W[l, n] of a weight that is (depth, columns).
INLINE void lay_along(float *panel, const float *from, long row, long depth, long columns, long wide) {
    for (long l = 0; l < depth; l++) read_row(panel + l * wide, from + l * row, columns);
}

// Where the sums begin: at what is added, put into their own place where its last vector is not whole.
INLINE Start begin(const Matmul &call, const Block &block) {
    const float *bias = call.bias ? call.bias + block.first : nullptr;
    const float *beside = call.beside ? call.beside + block.row * call.beside_row + block.first : nullptr;
    if (block.whole) return {beside, call.beside_row, bias};
    for (long i = 0; i < block.rows; i++)
        for (long j = 0; j < block.columns; j++)
            block.to[i * block.to_row + j] = (bias ? bias[j] : 0) + (beside ? beside[i * call.beside_row + j] : 0);
    return {block.to, block.to_row, nullptr};
}

// What becomes of the sums of some rows.
INLINE void finish(const Matmul &call, const Block &block, long first, long end) {
    for (long i = first; i < end; i++)
        for (long j = 0; j < block.columns; j += LANES) {
            long at = (block.row + i) * call.columns + block.first + j, count = block.columns - j;
            Floats made = load(block.to + i * block.to_row + j), slope;
            if (call.active) gelu(made, &made, &slope);
            if (call.active && call.slope) store_some(call.slope + at, slope, count);
            if (call.factor) made *= load_some(call.factor + at, count);
            store_some(call.y + at, made, count);
        }
}

// A panel of so many vectors times its rows.
template <int VECTORS> INLINE void sum_up(const Matmul &call, const Block &block, float *panel) {
    constexpr long ACROSS = VECTORS * LANES;
    long tall = even(block.rows, TALL, 1);  // tiles alike: one of a row or two takes as long as one of four
    long deep = even(call.depth, DEEP, 8), columns = block.columns == ACROSS ? ACROSS : block.columns;
    Start start = begin(call, block);
    for (long l = 0; l < call.depth; l += deep) {
        long depth = l + deep < call.depth ? deep : call.depth - l;
        const float *ready = call.laid ? call.weight + block.first * call.depth + l * ACROSS : panel;
        if (call.back) lay_along(panel, call.weight + l * call.weight_row + block.first, call.weight_row, depth, columns, ACROSS);
        else if (!call.laid) lay_across(panel, call.weight + block.first * call.weight_row + l, call.weight_row, depth, columns, ACROSS);
        bool last = l + depth == call.depth;
        for (long i = 0; i < block.rows; i += tall) {  // finished while they are in the cache
            long rows = i + tall < block.rows ? tall : block.rows - i;
            Matrix x = {call.x + (block.row + i) * call.x_row + l, call.x_row, 1};
            strip<VECTORS>(rows, depth, x, ready, ACROSS, block.to + i * block.to_row, block.to_row, start.of(i));
            if (last && (call.active || call.factor || !block.whole)) finish(call, block, i, i + rows);
        }
        start = {block.to, block.to_row, nullptr};
    }
}

void work(const Matmul &call, long number, Scratch scratch) {
    float *panel = scratch.take(DEEP * PANEL + ALIGNED), *apart = scratch.take(ROWS * PANEL);
    panel += ALIGNED - reinterpret_cast<uintptr_t>(panel) / sizeof(float) % ALIGNED;
    long panels = (call.columns + PANEL - 1) / PANEL, tall = even(call.rows, ROWS, TALL);
    Block block = {number / panels * tall, tall, number % panels * PANEL, PANEL, false, apart, PANEL};
    if (block.row + tall > call.rows) block.rows = call.rows - block.row;
    if (block.first + PANEL > call.columns) block.columns = call.columns - block.first;
    long wide = padded(block.columns);
    block.whole = wide == block.columns;
    if (block.whole) block.to = call.y + block.row * call.columns + block.first, block.to_row = call.columns;
    else std::memset(panel, 0, DEEP * PANEL * sizeof(float)), std::memset(apart, 0, ROWS * PANEL * sizeof(float));
    if (wide == PANEL) sum_up<2>(call, block, panel);
    else sum_up<1>(call, block, panel);
}

// y: a panel of a weight after the other, with room for whole ones.
void lay(const Matmul &call, long number, Scratch) {
    long first = number * PANEL, columns = first + PANEL < call.columns ? PANEL : call.columns - first;
    lay_across(call.y + first * call.depth, call.weight + first * call.weight_row, call.weight_row, call.depth, columns, padded(columns));
}

}  // namespace

extern "C" int matmul_lay(const Matmul *call, int) {
    return share(*call, (call->columns + PANEL - 1) / PANEL, 0, call->threads, lay);
}

extern "C" int matmul(const Matmul *call, int) {
    long panels = (call->columns + PANEL - 1) / PANEL, tall = even(call->rows, ROWS, TALL);
    return share(*call, panels * ((call->rows + tall - 1) / tall), (DEEP + ROWS) * PANEL + ALIGNED, call->threads, work, 1);
}
