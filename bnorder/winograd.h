/* Convolutions of 3 x 3 taps between many channels, on one core.

   Outputs are computed in tiles of 2 x 2, each from 4 x 4 inputs d and taps g, as

       A' ((G g G') * (B' d B)) A          B, G, A: small matrices of 0, 1, 1/2 and signs

   where * multiplies number by number: 16 products a tile and pair of channels instead of 36. All
   tiles' products at one of the 16 places are a matrix product over channels. Nothing but halves
   scales a number, so that rounding stays as small as that of the plain sum.

   Source: Winograd (1980); Lavin & Gray (2016), section 4.1. */

#include "vectors.h"

enum {
    PLACES = 16,   /* of a tile's 4 x 4 */
    SUM = 5,       /* the place where A dy A' has the sum of dy */
    TOGETHER = 14, /* tiles whose sums over channels are in registers at once */
    WEIGHING = 28, /* tiles that one sum of the gradient by taps is over */
    HELD = LANES == 16 ? 16 : 8 /* channels whose such sums are in registers at once */
};

INLINE int64_t tiles_over(int64_t size) { return (size + 1) / 2; }

/* Rows of tiles that go together, of `across` tiles each: about `tiles` of them. */
INLINE int64_t rows_together(int64_t across, int64_t tiles) { return at_least(tiles / across, 1); }

/* Numbers of the tiles of rows that go together, at all places. */
INLINE int64_t tiles_size(const Convolution *shape) {
    const int64_t across = tiles_over(shape->width);
    const int64_t widest = at_least(shape->inputs, shape->outputs);
    return PLACES * rows_together(across, WEIGHING) * across * widest;
}

/* A line of pixels outside an image, and two lots of tiles. */
INLINE int64_t line_size(const Convolution *shape) {
    return shape->width * shape->replicas * at_least(shape->inputs, shape->outputs);
}

INLINE int64_t convolution_room(const Convolution *shape) {
    return line_size(shape) + 2 * tiles_size(shape);
}

/* ---- tiles ---- */

/* Rows of an image from `first` on, of `line` numbers; `zeros` for those that it has not. */
INLINE void find_rows(const float *image, int64_t first, int count, int64_t height, int64_t line,
                      const float *zeros, const float **rows) {
    for (int row = 0; row < count; row++) {
        const int inside = first + row >= 0 && first + row < height;
        rows[row] = inside ? image + (first + row) * line : zeros;
    }
}

/* A column of four rows, as the rows of B' have it; zeros if it is outside the image. */
INLINE void down_column(const float **rows, int64_t at, int inside, Vector column[4]) {
    Vector r[4] = {ZERO, ZERO, ZERO, ZERO};
    if (inside)
        for (int row = 0; row < 4; row++) r[row] = LOAD(rows[row] + at);
    column[0] = r[0] - r[2];
    column[1] = r[1] + r[2];
    column[2] = r[2] - r[1];
    column[3] = r[1] - r[3];
}

/* B' d B of a row of tiles. rows: of `width` pixels, which are `step` numbers apart;
   to: (PLACES, `apart` numbers), each place (tiles, channels). */
INLINE void spread(const float **rows, int64_t width, int64_t step, int64_t channels,
                   float *restrict to, int64_t apart) {
    for (int64_t c = 0; c < channels; c += LANES) {
        Vector d[4][4]; /* columns that the last tile had, too, are first */
        down_column(rows, 0, 0, d[0]);
        down_column(rows, c, 1, d[1]);
        for (int64_t tile = 0; 2 * tile < width; tile++) {
            const int64_t right = 2 * tile + 1;
            float *place = to + tile * channels + c;
            down_column(rows, right * step + c, right < width, d[2]);
            down_column(rows, (right + 1) * step + c, right + 1 < width, d[3]);
            UNROLL(4)
            for (int i = 0; i < 4; i++, place += 4 * apart) {
                STORE(place, d[0][i] - d[2][i]);
                STORE(place + apart, d[1][i] + d[2][i]);
                STORE(place + 2 * apart, d[2][i] - d[1][i]);
                STORE(place + 3 * apart, d[1][i] - d[3][i]);
                d[0][i] = d[2][i];
                d[1][i] = d[3][i];
            }
        }
    }
}

/* A dy A' of a row of tiles of a gradient. */
INLINE void spread_gradient(const float **rows, int64_t width, int64_t step, int64_t channels,
                            float *restrict to, int64_t apart) {
    for (int64_t tile = 0; 2 * tile < width; tile++)
        for (int64_t c = 0; c < channels; c += LANES) {
            const int64_t at = 2 * tile * step + c;
            const int beside = 2 * tile + 1 < width;
            const Vector a = LOAD(rows[0] + at), b = beside ? LOAD(rows[0] + at + step) : ZERO;
            const Vector e = LOAD(rows[1] + at), f = beside ? LOAD(rows[1] + at + step) : ZERO;
            const Vector left[4] = {a, a + e, a - e, -e}, right[4] = {b, b + f, b - f, -f};
            float *place = to + tile * channels + c;
            UNROLL(4)
            for (int i = 0; i < 4; i++, place += 4 * apart) {
                STORE(place, left[i]);
                STORE(place + apart, left[i] + right[i]);
                STORE(place + 2 * apart, left[i] - right[i]);
                STORE(place + 3 * apart, -right[i]);
            }
        }
}

/* act(A' m A + bias) of a row of tiles, of which those on the edge may be cut off.
   to: of the first tile, in rows of `line` and pixels of `step` numbers. */
INLINE void gather(Activation act, const float *restrict from, int64_t apart, int64_t channels,
                   int64_t width, int below, const float *restrict bias, float *restrict to,
                   int64_t line, int64_t step) {
    for (int64_t tile = 0; 2 * tile < width; tile++)
        for (int64_t c = 0; c < channels; c += LANES) {
            const float *place = from + tile * channels + c;
            const Vector start = bias ? LOAD(bias + c) : ZERO;
            Vector up[4], low[4];
            UNROLL(4)
            for (int j = 0; j < 4; j++, place += apart) {
                const Vector m1 = LOAD(place + 4 * apart), m2 = LOAD(place + 8 * apart);
                up[j] = LOAD(place) + (m1 + m2);
                low[j] = (m1 - m2) - LOAD(place + 12 * apart);
            }
            float *at = to + 2 * tile * step + c;
            const int beside = 2 * tile + 1 < width;
            STORE(at, activate(up[0] + (up[1] + up[2]) + start, act));
            if (beside) STORE(at + step, activate((up[1] - up[2]) - up[3] + start, act));
            if (!below) continue;
            STORE(at + line, activate(low[0] + (low[1] + low[2]) + start, act));
            if (beside)
                STORE(at + line + step, activate((low[1] - low[2]) - low[3] + start, act));
        }
}

/* ---- products over channels ---- */

/* to (count, outputs) = tiles (count, inputs) x taps (inputs, outputs); count <= TOGETHER */
INLINE void multiply(int count, const float *restrict tiles, const float *restrict taps,
                     int64_t inputs, int64_t outputs, float *restrict to) {
    for (int64_t c = 0; c < outputs; c += LANES) {
        Vector sums[TOGETHER];
        UNROLL(14)
        for (int tile = 0; tile < count; tile++) sums[tile] = ZERO;
        for (int64_t first = 0; first < inputs; first += LANES)
            UNROLL(4)
            for (int64_t i = first; i < first + LANES; i++) {
                const Vector tap = LOAD(taps + i * outputs + c);
                UNROLL(14)
                for (int tile = 0; tile < count; tile++)
                    sums[tile] += tiles[tile * inputs + i] * tap;
            }
        UNROLL(14)
        for (int tile = 0; tile < count; tile++) STORE(to + tile * outputs + c, sums[tile]);
    }
}

/* The same of as many tiles as can go together; gives their number. */
INLINE int64_t multiply_first(int64_t count, const float *tiles, const float *taps, int64_t inputs,
                              int64_t outputs, float *to) {
#define TRY(many)                                               \
    if (count >= many) {                                        \
        multiply(many, tiles, taps, inputs, outputs, to);       \
        return many;                                            \
    }
    TRY(14) TRY(12) TRY(8) TRY(7) TRY(4) TRY(2) TRY(1)
#undef TRY
    return 0;
}

/* The same of all tiles at every place. */
INLINE void multiply_places(int64_t count, const float *tiles, const float *taps, int64_t inputs,
                            int64_t outputs, float *to) {
    for (int place = 0; place < PLACES; place++, taps += inputs * outputs)
        for (int64_t left = count; left;) {
            const int64_t done = multiply_first(left, tiles, taps, inputs, outputs, to);
            left -= done, tiles += done * inputs, to += done * outputs;
        }
}

/* to (inputs, outputs) += tiles' (count, inputs) x gradient (count, outputs) */
INLINE void weigh(int64_t count, const float *restrict tiles, const float *restrict gradient,
                  int64_t inputs, int64_t outputs, float *restrict to) {
    for (int64_t c = 0; c < outputs; c += LANES)
        for (int64_t i = 0; i < inputs; i += HELD) {
            Vector sums[HELD];
            UNROLL(16)
            for (int k = 0; k < HELD; k++) sums[k] = ZERO;
            for (int64_t tile = 0; tile < count; tile++) {
                const Vector here = LOAD(gradient + tile * outputs + c);
                UNROLL(16)
                for (int k = 0; k < HELD; k++) sums[k] += tiles[tile * inputs + i + k] * here;
            }
            UNROLL(16)
            for (int k = 0; k < HELD; k++) ADD(to + (i + k) * outputs + c, sums[k]);
        }
}

INLINE void weigh_places(int64_t count, const float *tiles, const float *gradient, int64_t inputs,
                         int64_t outputs, float *to) {
    for (int place = 0; place < PLACES; place++) {
        weigh(count, tiles, gradient, inputs, outputs, to);
        tiles += count * inputs, gradient += count * outputs, to += inputs * outputs;
    }
}

/* Both, for any number of channels and for sixteen, the most common, which the compiler knows then;
   once each, for they are long. */
#define SIZED(name, action, inputs, outputs)                                                      \
    OUTLINE void name(int64_t count, const float *a, const float *b, int64_t in, int64_t out,     \
                      float *to) {                                                                \
        (void)in, (void)out;                                                                      \
        action(count, a, b, inputs, outputs, to);                                                 \
    }
SIZED(multiply_sixteen, multiply_places, 16, 16)
SIZED(multiply_any, multiply_places, in, out)
SIZED(weigh_sixteen, weigh_places, 16, 16)
SIZED(weigh_any, weigh_places, in, out)
#undef SIZED

/* to (channels,) += the sum of rows (count, channels) */
INLINE void add_rows(int64_t count, const float *rows, int64_t channels, float *to) {
    for (int64_t c = 0; c < channels; c += LANES) {
        Vector sum = ZERO;
        for (int64_t row = 0; row < count; row++) sum += LOAD(rows + row * channels + c);
        ADD(to + c, sum);
    }
}

/* ---- an image ---- */

/* act(convolution) of one image. from, to: (height, width, replicas * inputs or outputs);
   taps: (replicas, PLACES, inputs, outputs), bias: (replicas * outputs,) or null;
   scratch: convolution_room, with a line of zeros */
INLINE void convolve_sized(Activation act, const Convolution *shape, int64_t inputs,
                           int64_t outputs, const float *from, const float *taps,
                           const float *bias, float *to, float *scratch) {
    const int64_t across = tiles_over(shape->width), rows = tiles_over(shape->height);
    const int64_t together = rows_together(across, TOGETHER);
    const int64_t step = shape->replicas * inputs, step_to = shape->replicas * outputs;
    const int64_t line_to = shape->width * step_to;
    float *spreads = scratch + line_size(shape), *products = spreads + tiles_size(shape);
    for (int64_t replica = 0; replica < shape->replicas; replica++)
        for (int64_t first = 0; first < rows; first += together) {
            const int64_t now = at_most(together, rows - first), count = now * across;
            for (int64_t row = 0; row < now; row++) {
                const float *four[4];
                find_rows(from + replica * inputs, 2 * (first + row) - 1, 4, shape->height,
                          shape->width * step, scratch, four);
                spread(four, shape->width, step, inputs, spreads + row * across * inputs,
                       count * inputs);
            }
            (inputs == 16 && outputs == 16 ? multiply_sixteen : multiply_any)(
                count, spreads, taps + replica * PLACES * inputs * outputs, inputs, outputs,
                products);
            for (int64_t row = 0; row < now; row++) {
                const int64_t i = 2 * (first + row);
                gather(act, products + row * across * outputs, count * outputs, outputs,
                       shape->width, i + 1 < shape->height, bias ? bias + replica * outputs : 0,
                       to + i * line_to + replica * outputs, line_to, step_to);
            }
        }
}

/* Adds one image to the gradients by spread taps, (replicas, PLACES, inputs, outputs), and by bias.
   image, du: (height, width, replicas * inputs or outputs); scratch: as above */
INLINE void weigh_sized(const Convolution *shape, int64_t inputs, int64_t outputs,
                        const float *image, const float *du, float *dtaps, float *dbias,
                        float *scratch) {
    const int64_t across = tiles_over(shape->width), rows = tiles_over(shape->height);
    const int64_t together = rows_together(across, WEIGHING), width = shape->width;
    const int64_t step = shape->replicas * inputs, step_du = shape->replicas * outputs;
    float *spreads = scratch + line_size(shape), *gradients = spreads + tiles_size(shape);
    for (int64_t replica = 0; replica < shape->replicas; replica++)
        for (int64_t first = 0; first < rows; first += together) {
            const int64_t now = at_most(together, rows - first), count = now * across;
            for (int64_t row = 0; row < now; row++) {
                const int64_t i = 2 * (first + row);
                const float *four[4], *two[2];
                find_rows(image + replica * inputs, i - 1, 4, shape->height, width * step, scratch,
                          four);
                find_rows(du + replica * outputs, i, 2, shape->height, width * step_du, scratch,
                          two);
                spread(four, width, step, inputs, spreads + row * across * inputs, count * inputs);
                spread_gradient(two, width, step_du, outputs, gradients + row * across * outputs,
                                count * outputs);
            }
            (inputs == 16 && outputs == 16 ? weigh_sixteen : weigh_any)(
                count, spreads, gradients, inputs, outputs,
                dtaps + replica * PLACES * inputs * outputs);
            add_rows(count, gradients + SUM * count * outputs, outputs, dbias + replica * outputs);
        }
}

INLINE void convolve_tiles(Activation act, const Convolution *shape, const float *from,
                           const float *taps, const float *bias, float *to, float *scratch) {
    const int64_t inputs = shape->inputs, outputs = shape->outputs;
    if (inputs == 16 && outputs == 16)
        convolve_sized(act, shape, 16, 16, from, taps, bias, to, scratch);
    else
        convolve_sized(act, shape, inputs, outputs, from, taps, bias, to, scratch);
}

static void weigh_tiles(const Convolution *shape, const float *image, const float *du,
                        float *dtaps, float *dbias, float *scratch) {
    const int64_t inputs = shape->inputs, outputs = shape->outputs;
    if (inputs == 16 && outputs == 16)
        weigh_sized(shape, 16, 16, image, du, dtaps, dbias, scratch);
    else
        weigh_sized(shape, inputs, outputs, image, du, dtaps, dbias, scratch);
}

/* ---- taps ---- */

/* G g of one column of taps. */
INLINE void spread_column(Vector g0, Vector g1, Vector g2, Vector to[4]) {
    const Vector ends = 0.5f * (g0 + g2), middle = 0.5f * g1;
    to[0] = g0;
    to[1] = ends + middle;
    to[2] = ends - middle;
    to[3] = g2;
}

/* G g G' of a convolution's weights (replicas * outputs, 3, 3, inputs).
   to: (replicas, PLACES, inputs, outputs); or, if `backwards`, those by which its gradient by
   inputs is a convolution of that by outputs: turned round, (replicas, PLACES, outputs, inputs). */
static void spread_taps(const Convolution *shape, const float *weight, int64_t backwards,
                        float *to) {
    const int64_t inputs = shape->inputs, outputs = shape->outputs, pairs = inputs * outputs;
    for (int64_t o = 0; o < shape->replicas * outputs; o++)
        for (int64_t i = 0; i < inputs; i += LANES) {
            const float *from = weight + o * 9 * inputs + i;
            Vector g[9], half[3][4], whole[4];
            for (int tap = 0; tap < 9; tap++)
                g[tap] = LOAD(from + (backwards ? 8 - tap : tap) * inputs);
            for (int q = 0; q < 3; q++) spread_column(g[q], g[3 + q], g[6 + q], half[q]);
            for (int p = 0; p < 4; p++) {
                spread_column(half[0][p], half[1][p], half[2][p], whole);
                for (int q = 0; q < 4; q++) {
                    float *place = to + (o / outputs * PLACES + 4 * p + q) * pairs;
                    if (backwards) STORE(place + o % outputs * inputs + i, whole[q]);
                    else
                        for (int lane = 0; lane < LANES; lane++)
                            place[(i + lane) * outputs + o % outputs] = whole[q][lane];
                }
            }
        }
}

/* G' m of one column. */
INLINE void gather_column(const Vector m[4], Vector to[3]) {
    const Vector sum = 0.5f * (m[1] + m[2]);
    to[0] = m[0] + sum;
    to[1] = 0.5f * (m[1] - m[2]);
    to[2] = sum + m[3];
}

/* G' m G: the gradient by weights (replicas * outputs, 3, 3, inputs) of that by spread taps. */
static void gather_taps(const Convolution *shape, const float *dtaps, float *to) {
    const int64_t inputs = shape->inputs, outputs = shape->outputs, pairs = inputs * outputs;
    for (int64_t o = 0; o < shape->replicas * outputs; o++)
        for (int64_t i = 0; i < inputs; i += LANES) {
            const float *from = dtaps + o / outputs * PLACES * pairs + i * outputs + o % outputs;
            Vector half[3][4], column[4], taps[3];
            for (int q = 0; q < 4; q++) {
                for (int p = 0; p < 4; p++)
                    for (int lane = 0; lane < LANES; lane++)
                        column[p][lane] = from[(4 * p + q) * pairs + lane * outputs];
                gather_column(column, taps);
                for (int p = 0; p < 3; p++) half[p][q] = taps[p];
            }
            for (int p = 0; p < 3; p++) {
                gather_column(half[p], taps);
                for (int q = 0; q < 3; q++)
                    STORE(to + (o * 9 + 3 * p + q) * inputs + i, taps[q]);
            }
        }
}
