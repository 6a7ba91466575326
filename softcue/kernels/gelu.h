// gelu(x) = x P(X < x), X normally distributed, and its slope: both from one exponential.
#pragma once

#include "vectors.h"

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
