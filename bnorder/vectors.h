/* Vectors of neighbouring channels, and activations of them. */

#ifndef VECTORS_H
#define VECTORS_H

#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif

typedef float Vector __attribute__((vector_size(4 * LANES)));
typedef int32_t Whole __attribute__((vector_size(4 * LANES)));
typedef double Wide __attribute__((vector_size(8 * LANES)));
typedef Vector Unaligned __attribute__((aligned(4), may_alias));
typedef Wide UnalignedWide __attribute__((aligned(8), may_alias));
typedef uint8_t Bytes __attribute__((vector_size(LANES), aligned(1), may_alias));

#if defined(__clang__)
#define UNROLL(times) PRAGMA(clang loop unroll(full))
#else
#define UNROLL(times) PRAGMA(GCC unroll times)
#endif
#define PRAGMA(text) _Pragma(#text)
#define INLINE static inline __attribute__((always_inline))
#define OUTLINE static __attribute__((noinline))
#define ZERO ((Vector){0})
#define LOAD(pointer) ((Vector)*(const Unaligned *)(pointer))
#define STORE(pointer, value) (*(Unaligned *)(pointer) = (value))
#define ADD(pointer, value) (*(Unaligned *)(pointer) += (value))
#define ADD_WIDE(pointer, value) \
    (*(UnalignedWide *)(pointer) += __builtin_convertvector((value), Wide))

/* Above zero an activation is the identity; below it is slope * x, or exp(x) - 1 if `elu`.
   Its derivative there is gain * value + slope: 0 * value + slope, or 1 * value + 1. */
typedef struct {
    int32_t elu;
    float gain, slope;
} Activation;

static const Activation ELU = {1, 1, 1}, NONE = {0, 0, 1};

INLINE Vector choose(Whole mask, Vector yes, Vector no) {
    return (Vector)(((Whole)yes & mask) | ((Whole)no & ~mask));
}

/* exp(x) - 1 for x <= 0: x = n ln 2 + r with |r| <= ln 2 / 2, and the Taylor series of r. */
INLINE Vector expm1_below(Vector x) {
    x = choose(x < -87.0f, ZERO - 87.0f, x);
    const Whole n = __builtin_convertvector(x * 1.44269504f - 0.5f, Whole);
    const Vector whole = __builtin_convertvector(n, Vector);
    const Vector r = (x - whole * 0.693359375f) + whole * 2.12194440e-4f;
    Vector p = r * (1.0f / 5040) + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r * r + r;
    const Vector power = (Vector)((n + 127) << 23);
    return power * p + (power - 1.0f);
}

INLINE Vector activate(Vector x, Activation act) {
    const Whole above = x > 0.0f;
    if (act.elu) return choose(above, x, expm1_below(choose(above, ZERO, x)));
    return choose(above, x, act.slope * x);
}

INLINE Vector derivative(Vector value, Activation act) {
    return choose(value > 0.0f, ZERO + 1.0f, act.gain * value + act.slope);
}

/* Calls with an activation of a known kind, so that none is chosen inside a loop. */
#define WITH(function, act, ...)                                                                  \
    do {                                                                                          \
        if ((act).elu) function(ELU, __VA_ARGS__);                                                \
        else if ((act).slope == 1) function(NONE, __VA_ARGS__);                                   \
        else function((Activation){0, 0, (act).slope}, __VA_ARGS__);                              \
    } while (0)

/* The sum of a vector's numbers. */
INLINE float sum_of(Vector vector) {
    typedef float Four __attribute__((vector_size(16)));
    Four parts[LANES / 4];
    memcpy(parts, &vector, sizeof parts);
    for (int k = 1; k < LANES / 4; k++) parts[0] += parts[k];
    return (parts[0][0] + parts[0][1]) + (parts[0][2] + parts[0][3]);
}

INLINE int64_t at_most(int64_t value, int64_t most) { return value < most ? value : most; }
INLINE int64_t at_least(int64_t value, int64_t least) { return value > least ? value : least; }

/* What a convolution reads and writes; inputs, outputs: channels of each replica. */
typedef struct {
    int64_t height, width, replicas, inputs, outputs, kernel;
} Convolution;

#endif
