// Products of small float32 matrices in the cache; rows are whole vectors.
#pragma once

#include "vectors.h"

constexpr int TALL = 6;  // rows of a tile of a product: with two vectors each, their sums fill the registers

// c[m, n] (+)= the sum over l of a[m, l] b[l, n]; n is whole vectors, and a may be read across.
struct Matrix {
    const float *at;
    long row, column;
};

// What sums begin with: numbers that lie as c does, and a row that is added to all; null: nothing.
struct Start {
    const float *at;
    long row;
    const float *bias;
    inline Start of(long i) const { return {at ? at + i * row : nullptr, row, bias}; }  // the rows from i on
};

template <int ROWS, int VECTORS>
INLINE void tile(long depth, Matrix a, const float *b, long b_row, float *c, long c_row, Start start) {
    Floats total[ROWS][VECTORS];
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < VECTORS; j++) total[i][j] = start.at ? load(start.at + i * start.row + j * LANES) : Floats{};
    if (start.bias)
        for (int i = 0; i < ROWS; i++)
            for (int j = 0; j < VECTORS; j++) total[i][j] += load(start.bias + j * LANES);
    for (long l = 0; l < depth; l++) {
        Floats right[VECTORS];
        for (int j = 0; j < VECTORS; j++) right[j] = load(b + l * b_row + j * LANES);
        for (int i = 0; i < ROWS; i++) {
            float left = a.at[i * a.row + l * a.column];
            for (int j = 0; j < VECTORS; j++) total[i][j] += left * right[j];
        }
    }
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < VECTORS; j++) store(c + i * c_row + j * LANES, total[i][j]);
}

// The last rows that make no whole tile, ROWS of them or fewer.
template <int ROWS, int VECTORS>
INLINE void rest(long rows, long depth, Matrix a, const float *b, long b_row, float *c, long c_row, Start start) {
    if (rows == ROWS) return tile<ROWS, VECTORS>(depth, a, b, b_row, c, c_row, start);
    if constexpr (ROWS > 1) rest<ROWS - 1, VECTORS>(rows, depth, a, b, b_row, c, c_row, start);
}

template <int VECTORS>
INLINE void strip(long rows, long depth, Matrix a, const float *b, long b_row, float *c, long c_row, Start start) {
    long i = 0;
    for (; i + TALL <= rows; i += TALL)
        tile<TALL, VECTORS>(depth, {a.at + i * a.row, a.row, a.column}, b, b_row, c + i * c_row, c_row, start.of(i));
    rest<TALL - 1, VECTORS>(rows - i, depth, {a.at + i * a.row, a.row, a.column}, b, b_row, c + i * c_row, c_row, start.of(i));
}

inline void multiply(long rows, long columns, long depth, Matrix a, const float *b, long b_row, float *c, long c_row, bool add) {
    long j = 0;
    for (; j + 2 * LANES <= columns; j += 2 * LANES) strip<2>(rows, depth, a, b + j, b_row, c + j, c_row, {add ? c + j : nullptr, c_row, nullptr});
    for (; j < columns; j += LANES) strip<1>(rows, depth, a, b + j, b_row, c + j, c_row, {add ? c + j : nullptr, c_row, nullptr});
}

typedef float Eight __attribute__((vector_size(32), aligned(4), may_alias));

#define PAIR(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)

// 8 x 8 numbers across.
INLINE void across(float *to, long to_row, const float *from, long from_row) {
    Eight row[8], twos[8], fours[8];
    for (int i = 0; i < 8; i++) row[i] = *reinterpret_cast<const Eight *>(from + i * from_row);
    for (int i = 0; i < 8; i += 2) {
        twos[i] = PAIR(row[i], row[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        twos[i + 1] = PAIR(row[i], row[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; j++) {
            fours[i + 2 * j] = PAIR(twos[i + j], twos[i + j + 2], 0, 1, 8, 9, 4, 5, 12, 13);
            fours[i + 2 * j + 1] = PAIR(twos[i + j], twos[i + j + 2], 2, 3, 10, 11, 6, 7, 14, 15);
        }
    for (int i = 0; i < 4; i++) {
        *reinterpret_cast<Eight *>(to + i * to_row) = PAIR(fours[i], fours[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        *reinterpret_cast<Eight *>(to + (i + 4) * to_row) = PAIR(fours[i], fours[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
}

// (rows, columns) to (columns, rows), both whole vectors; the rows from `used` on are made zeros first.
inline void transpose(float *to, float *from, long used, long rows, long columns) {
    std::memset(from + used * columns, 0, (rows - used) * columns * sizeof(float));
    for (long i = 0; i < rows; i += 8)
        for (long j = 0; j < columns; j += 8) across(to + j * rows + i, rows, from + i * columns + j, columns);
}
