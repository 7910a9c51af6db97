/* Layers of a network in as few passes over memory as they need, forwards and backwards, on one
   core. Tensors are float32 and lie channels last: (images, height, width, channels).

   A group of layers, each of which may be missing, is

       u = act1(convolution(x))        an image's convolution: one channel in, many out
       y = act2(pool(scale * u + shift))        batch norm is scale and shift

   A vector holds neighbouring channels, of which there are a multiple of 16. What is not a number
   stays one. Sums over a batch run in float32 within an image and in float64 from image to image.

   Source: Ioffe & Szegedy (2015), algorithm 1, and its derivative. */

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

#define INLINE static inline __attribute__((always_inline))
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

static const Activation ELU = {1, 1, 1};

/* A group of layers, and the shape of u. Without pooling and convolution the place of a pixel does
   not matter, and a row of several pixels may pass for one of more channels. */
typedef struct {
    int64_t images, height, width, channels;
    int64_t replicas, kernel; /* of the convolution; kernel 0: there is none */
    int64_t pooled;
    Activation act1, act2;
} Group;

/* What a group's backward pass needs of each channel: du = a * dz + b + k * (u - mean). */
typedef struct {
    const float *mean, *a, *b, *k;
} Coefficients;

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
        else function((Activation){0, 0, (act).slope}, __VA_ARGS__);                              \
    } while (0)

/* ---- forwards ---- */

/* Each replica's channel of an image with a margin of zeros: (replicas, height + 2 pad, ...). */
static void pad_image(const Group *group, const float *image, float *padded) {
    const int64_t pad = group->kernel / 2, width = group->width + 2 * pad;
    const int64_t plane = (group->height + 2 * pad) * width;
    memset(padded, 0, sizeof(float) * (size_t)(group->replicas * plane));
    for (int64_t i = 0; i < group->height; i++)
        for (int64_t j = 0; j < group->width; j++)
            for (int64_t replica = 0; replica < group->replicas; replica++)
                padded[replica * plane + (i + pad) * width + j + pad] = *image++;
}

/* u of one image: act1 of its convolution, four pixels at a time where a row has them.
   taps: (replicas, kernel, kernel, outputs); bias: (channels,) */
INLINE void convolve_with(Activation act, const Group *group, int64_t kernel,
                          const float *restrict padded, const float *restrict taps,
                          const float *restrict bias, float *restrict u) {
    const int64_t outputs = group->channels / group->replicas, width = group->width + kernel - 1;
    const int64_t plane = (group->height + kernel - 1) * width;
    for (int64_t c = 0; c < group->channels; c += LANES) {
        const float *from = padded + c / outputs * plane;
        const float *weight = taps + c / outputs * kernel * kernel * outputs + c % outputs;
        const Vector start = LOAD(bias + c);
        for (int64_t i = 0; i < group->height; i++) {
            float *to = u + i * group->width * group->channels + c;
            int64_t j = 0;
            for (; j + 4 <= group->width; j += 4) {
                Vector s0 = start, s1 = start, s2 = start, s3 = start;
                for (int64_t p = 0; p < kernel; p++)
                    for (int64_t q = 0; q < kernel; q++) {
                        const float *pixel = from + (i + p) * width + j + q;
                        const Vector w = LOAD(weight + (p * kernel + q) * outputs);
                        s0 += pixel[0] * w;
                        s1 += pixel[1] * w;
                        s2 += pixel[2] * w;
                        s3 += pixel[3] * w;
                    }
                STORE(to + j * group->channels, activate(s0, act));
                STORE(to + (j + 1) * group->channels, activate(s1, act));
                STORE(to + (j + 2) * group->channels, activate(s2, act));
                STORE(to + (j + 3) * group->channels, activate(s3, act));
            }
            for (; j < group->width; j++) {
                Vector sum = start;
                for (int64_t p = 0; p < kernel; p++)
                    for (int64_t q = 0; q < kernel; q++)
                        sum += from[(i + p) * width + j + q] *
                               LOAD(weight + (p * kernel + q) * outputs);
                STORE(to + j * group->channels, activate(sum, act));
            }
        }
    }
}

INLINE void activate_with(Activation act, int64_t count, const float *x, float *u) {
    for (int64_t at = 0; at < count; at += LANES) STORE(u + at, activate(LOAD(x + at), act));
}

/* Adds an image's sums of (u - pivot) and its square to those of each channel. Four sums run side
   by side, so that no addition waits for the last. */
static void add_moments(const Group *group, const float *u, const float *pivot, double *sums) {
    const int64_t rows = group->height * group->width, channels = group->channels;
    for (int64_t c = 0; c < channels; c += LANES) {
        Vector s[4] = {ZERO, ZERO, ZERO, ZERO}, q[4] = {ZERO, ZERO, ZERO, ZERO};
        const Vector centre = LOAD(pivot + c);
        int64_t row = 0;
        for (; row + 4 <= rows; row += 4)
#pragma GCC unroll 4
            for (int k = 0; k < 4; k++) {
                const Vector v = LOAD(u + (row + k) * channels + c) - centre;
                s[k] += v;
                q[k] += v * v;
            }
        for (; row < rows; row++) {
            const Vector v = LOAD(u + row * channels + c) - centre;
            s[0] += v;
            q[0] += v * v;
        }
        ADD_WIDE(sums + c, (s[0] + s[1]) + (s[2] + s[3]));
        ADD_WIDE(sums + channels + c, (q[0] + q[1]) + (q[2] + q[3]));
    }
}

/* A value near each channel's mean, by which its numbers are shifted: their squares' mean less their
   mean's square then keeps its digits. It is one image's mean. sums: (2, channels), left at zero. */
static void find_pivot(const Group *group, const float *u, float *pivot, double *sums) {
    const int64_t rows = group->height * group->width, channels = group->channels;
    memset(pivot, 0, sizeof(float) * (size_t)channels);
    add_moments(group, u, pivot, sums);
    for (int64_t c = 0; c < channels; c++) pivot[c] = (float)(sums[c] / (double)rows);
    memset(sums, 0, 2 * sizeof(double) * (size_t)channels);
}

/* u of x, and mean and biased variance of each channel of u.
   u: may be x where there is neither convolution nor act1. sums: (2, channels) zeros, or null to
   leave mean and variance. scratch: room for one padded image. */
void prepare(const Group *group, const float *x, const float *taps, const float *bias, float *u,
             double *sums, float *mean, float *variance, float *scratch) {
    const int64_t channels = group->channels, rows = group->height * group->width;
    const double count = (double)(group->images * rows);
    for (int64_t image = 0; image < group->images; image++) {
        float *to = u + image * rows * channels;
        if (group->kernel) {
            pad_image(group, x + image * rows * group->replicas, scratch);
            if (group->kernel == 3)
                WITH(convolve_with, group->act1, group, 3, scratch, taps, bias, to);
            else
                WITH(convolve_with, group->act1, group, group->kernel, scratch, taps, bias, to);
        } else if (u != x) {
            WITH(activate_with, group->act1, rows * channels, x + image * rows * channels, to);
        }
        if (sums) {
            if (!image) find_pivot(group, to, mean, sums);
            add_moments(group, to, mean, sums);
        }
    }
    for (int64_t c = 0; sums && c < channels; c++) {
        const double shifted = sums[c] / count;
        mean[c] = (float)(mean[c] + shifted);
        const double spread = sums[channels + c] / count - shifted * shifted;
        variance[c] = (float)(spread < 0 ? 0 : spread); /* NaN stays */
    }
}

INLINE void plain_with(Activation act, const Group *group, const float *u, const float *scale,
                       const float *shift, float *y) {
    const int64_t rows = group->images * group->height * group->width, channels = group->channels;
    for (int64_t row = 0; row < rows; row++)
        for (int64_t c = 0; c < channels; c += LANES) {
            const Vector z = LOAD(scale + c) * LOAD(u + row * channels + c) + LOAD(shift + c);
            STORE(y + row * channels + c, activate(z, act));
        }
}

/* largest: the u that was taken from each 2x2 window; where: its place there, 0 to 3. */
INLINE void pooled_with(Activation act, const Group *group, const float *u, const float *scale,
                        const float *shift, float *y, float *largest, uint8_t *where) {
    const int64_t channels = group->channels, line = group->width * channels;
    const int64_t offsets[4] = {0, channels, line, line + channels};
    int64_t to = 0;
    for (int64_t image = 0; image < group->images; image++)
        for (int64_t i = 0; i + 1 < group->height; i += 2)
            for (int64_t j = 0; j + 1 < group->width; j += 2)
                for (int64_t c = 0; c < channels; c += LANES, to += LANES) {
                    const float *at = u + (image * group->height + i) * line + j * channels + c;
                    const Vector s = LOAD(scale + c), t = LOAD(shift + c);
                    Vector taken = LOAD(at), best = s * taken + t, total = best;
                    Whole place = {0};
#pragma GCC unroll 3
                    for (int k = 1; k < 4; k++) {
                        const Vector here = LOAD(at + offsets[k]), z = s * here + t;
                        const Whole more = z > best;
                        total += z;
                        best = choose(more, z, best);
                        taken = choose(more, here, taken);
                        place = (more & k) | (place & ~more);
                    }
                    STORE(y + to, activate(best, act) + (total - total)); /* keeps NaN */
                    STORE(largest + to, taken);
                    *(Bytes *)(where + to) = __builtin_convertvector(place, Bytes);
                }
}

/* y of u; largest and where only where the group pools. */
void forward(const Group *group, const float *u, const float *scale, const float *shift, float *y,
             float *largest, uint8_t *where) {
    if (group->pooled) WITH(pooled_with, group->act2, group, u, scale, shift, y, largest, where);
    else WITH(plain_with, group->act2, group, u, scale, shift, y);
}

/* y of x where scale and shift are known beforehand: u is never written to memory.
   scratch: for one padded image, one image's u, one image's `largest` and, behind it, `where`. */
void infer(const Group *group, const float *x, const float *taps, const float *bias,
           const float *scale, const float *shift, float *y, float *scratch) {
    Group one = *group;
    one.images = 1;
    const int64_t rows = group->height * group->width, size = rows * group->channels;
    const int64_t inputs = group->kernel ? rows * group->replicas : size;
    const int64_t pooled = (group->height / 2) * (group->width / 2) * group->channels;
    const int64_t outputs = group->pooled ? pooled : size;
    float *u = scratch, *largest = u + size, *where = largest + size, *padded = where + size;
    for (int64_t image = 0; image < group->images; image++, x += inputs, y += outputs) {
        prepare(&one, x, taps, bias, u, 0, 0, 0, padded);
        forward(&one, u, scale, shift, y, largest, (uint8_t *)where);
    }
}

/* ---- the batch ---- */

/* A training batch's pixels (batch, pixels, replicas * channels), each as (pixel - offset) * scale.
   images: (n, channels, pixels); index: (batch, replicas); offset, scale: (channels,) */
void take(const uint8_t *restrict images, int64_t channels, int64_t pixels,
          const int64_t *restrict index, int64_t batch, int64_t replicas,
          const float *restrict offset, const float *restrict scale, float *restrict out) {
    const int64_t stride = replicas * channels;
    for (int64_t row = 0; row < batch; row++, out += pixels * stride)
        for (int64_t replica = 0; replica < replicas; replica++) {
            const uint8_t *from = images + index[row * replicas + replica] * channels * pixels;
            for (int64_t c = 0; c < channels; c++)
                for (int64_t pixel = 0; pixel < pixels; pixel++)
                    out[pixel * stride + replica * channels + c] =
                        (from[c * pixels + pixel] - offset[c]) * scale[c];
        }
}

/* ---- backwards ---- */

/* Adds the sums of dz and of dz * (u - mean) in each channel, dz being the gradient before act2, to
   sums (2, channels). u: `largest` where the group pools; rows: of y in all. */
void gradient_sums(const Group *group, int64_t rows, const float *u, const float *gradient,
                   const float *y, const float *mean, double *sums) {
    const int64_t channels = group->channels, stretch = 1024; /* rows to add up in float32 */
    const Activation act2 = group->act2;
    for (int64_t first = 0; first < rows; first += stretch)
        for (int64_t c = 0; c < channels; c += LANES) {
            const int64_t last = first + stretch < rows ? first + stretch : rows;
            const Vector centre = LOAD(mean + c);
            Vector s[2] = {ZERO, ZERO}, q[2] = {ZERO, ZERO};
            for (int64_t row = first; row < last; row += 2)
#pragma GCC unroll 2
                for (int k = 0; k < 2; k++) {
                    if (row + k >= last) break;
                    const int64_t at = (row + k) * channels + c;
                    const Vector dz = LOAD(gradient + at) * derivative(LOAD(y + at), act2);
                    s[k] += dz;
                    q[k] += dz * (LOAD(u + at) - centre);
                }
            ADD_WIDE(sums + c, s[0] + s[1]);
            ADD_WIDE(sums + channels + c, q[0] + q[1]);
        }
}

/* act1'(u) * (a * dz + b + k * (u - mean)) */
INLINE Vector before_act1(Vector u, Vector dz, Activation act1, const Coefficients *by, int64_t c) {
    const Vector centred = u - LOAD(by->mean + c);
    const Vector du = LOAD(by->a + c) * dz + (LOAD(by->b + c) + LOAD(by->k + c) * centred);
    return derivative(u, act1) * du;
}

/* du of one image, whose rows are `stride` numbers apart. */
static void plain_backward(const Group *group, const float *u, const float *gradient,
                           const float *y, const Coefficients *by, float *du, int64_t stride) {
    const int64_t channels = group->channels, line = group->width * channels;
    const Activation act1 = group->act1, act2 = group->act2;
    for (int64_t i = 0; i < group->height; i++, du += stride)
        for (int64_t j = 0; j < line; j += channels)
            for (int64_t c = 0; c < channels; c += LANES) {
                const int64_t at = i * line + j + c;
                const Vector dz = LOAD(gradient + at) * derivative(LOAD(y + at), act2);
                STORE(du + j + c, before_act1(LOAD(u + at), dz, act1, by, c));
            }
}

static void pooled_backward(const Group *group, const float *u, const float *gradient,
                            const float *y, const uint8_t *where, const Coefficients *by,
                            float *du, int64_t stride) {
    const int64_t channels = group->channels, line = group->width * channels;
    const int64_t offsets[4] = {0, channels, line, line + channels};
    const int64_t targets[4] = {0, channels, stride, stride + channels};
    const Activation act1 = group->act1, act2 = group->act2;
    int64_t from = 0;
    for (int64_t i = 0; i < group->height; i += 2)
        for (int64_t j = 0; j < group->width; j += 2) {
            const int down = i + 1 < group->height, right = j + 1 < group->width;
            for (int64_t c = 0; c < channels; c += LANES) {
                Vector dz = ZERO;
                Whole place = {0};
                if (down && right) { /* odd sizes have an edge that no window covers */
                    dz = LOAD(gradient + from) * derivative(LOAD(y + from), act2);
                    place = __builtin_convertvector(*(const Bytes *)(where + from), Whole);
                    from += LANES;
                }
#pragma GCC unroll 4
                for (int k = 0; k < 4; k++) {
                    if ((k & 1 && !right) || (k & 2 && !down)) continue;
                    const Vector here = LOAD(u + i * line + j * channels + offsets[k] + c);
                    const Vector mine = choose(place == k, dz, ZERO);
                    STORE(du + i * stride + j * channels + targets[k] + c,
                          before_act1(here, mine, act1, by, c));
                }
            }
        }
}

/* Adds an image's part of the gradients by taps and bias.
   padded: the image, du: its gradient, both with their margins. */
INLINE void add_weight_gradient(const Group *group, int64_t kernel, const float *restrict padded,
                                const float *restrict du, float *dtaps, float *dbias) {
    const int64_t channels = group->channels, outputs = channels / group->replicas;
    const int64_t width = group->width + kernel - 1, pad = kernel / 2;
    const int64_t plane = (group->height + kernel - 1) * width;
    const int64_t together = kernel == 3 ? 3 : 1; /* rows of taps: nine sums fit in registers */
    for (int64_t c = 0; c < channels; c += LANES) {
        const float *from = padded + c / outputs * plane;
        float *to = dtaps + c / outputs * kernel * kernel * outputs + c % outputs;
        for (int64_t first = 0; first < kernel; first += together) {
            Vector sums[16] = {ZERO}, total = ZERO;
            for (int64_t i = 0; i < group->height; i++)
                for (int64_t j = 0; j < group->width; j++) {
                    const Vector d = LOAD(du + ((i + pad) * width + j + pad) * channels + c);
#pragma GCC unroll 3
                    for (int64_t p = 0; p < together; p++)
#pragma GCC unroll 3
                        for (int64_t q = 0; q < kernel; q++)
                            sums[p * kernel + q] += from[(i + first + p) * width + j + q] * d;
                    total += d;
                }
            for (int64_t tap = 0; tap < together * kernel; tap++)
                ADD(to + (first * kernel + tap) * outputs, sums[tap]);
            if (!first) ADD(dbias + c, total);
        }
    }
}

INLINE float sum_of(Vector vector) {
    typedef float Four __attribute__((vector_size(16)));
    Four parts[LANES / 4];
    memcpy(parts, &vector, sizeof parts);
    for (int k = 1; k < LANES / 4; k++) parts[0] += parts[k];
    return (parts[0][0] + parts[0][1]) + (parts[0][2] + parts[0][3]);
}

/* Adds the gradient by the image, (height, width, replicas). du: with its margin of zeros. */
INLINE void image_gradient(const Group *group, int64_t kernel, const float *restrict du,
                           const float *restrict taps, float *restrict dx) {
    const int64_t channels = group->channels, outputs = channels / group->replicas;
    const int64_t width = group->width + kernel - 1, last = kernel - 1;
    for (int64_t c = 0; c < channels; c += LANES) {
        const int64_t replica = c / outputs;
        const float *weight = taps + replica * kernel * kernel * outputs + c % outputs;
        Vector held[9]; /* in registers, where there are no more */
        for (int64_t tap = 0; tap < 9 && kernel == 3; tap++)
            held[tap] = LOAD(weight + tap * outputs);
        for (int64_t i = 0; i < group->height; i++)
            for (int64_t j = 0; j < group->width; j++) {
                Vector sum = ZERO;
#pragma GCC unroll 3
                for (int64_t p = 0; p < kernel; p++)
#pragma GCC unroll 3
                    for (int64_t q = 0; q < kernel; q++) {
                        const int64_t tap = p * kernel + q;
                        const Vector w = kernel == 3 ? held[tap] : LOAD(weight + tap * outputs);
                        const int64_t at = (i + last - p) * width + j + last - q;
                        sum += w * LOAD(du + at * channels + c);
                    }
                dx[(i * group->width + j) * group->replicas + replica] += sum_of(sum);
            }
    }
}

/* Adds one image to the gradients of its convolution; scratch: du with its margin, and room for
   the image with its own. */
INLINE void convolution_backward(const Group *group, int64_t kernel, const float *x,
                                 const float *taps, float *dx, float *dtaps, float *dbias,
                                 float *scratch) {
    const int64_t plane = (group->height + kernel - 1) * (group->width + kernel - 1);
    float *padded = scratch + plane * group->channels;
    pad_image(group, x, padded);
    add_weight_gradient(group, kernel, padded, scratch, dtaps, dbias);
    if (dx) image_gradient(group, kernel, scratch, taps, dx);
}

/* The gradients by x, and by taps and bias where there is a convolution: then added to what is
   there. x, taps, dtaps, dbias: only for a convolution; dx: then null if nobody asks for it.
   scratch: for a convolution, zeros with room for one image and one image's u, with margins. */
void backward(const Group *group, const float *u, const float *gradient, const float *y,
              const uint8_t *where, const Coefficients *by, const float *x, const float *taps,
              float *dx, float *dtaps, float *dbias, float *scratch) {
    const int64_t rows = group->height * group->width, channels = group->channels;
    const int64_t size = rows * channels, pixels = rows * group->replicas;
    const int64_t pooled = (group->height / 2) * (group->width / 2) * channels;
    const int64_t kernel = group->kernel, pad = kernel / 2;
    const int64_t stride = (group->width + 2 * pad) * channels;
    for (int64_t image = 0; image < group->images; image++) {
        const int64_t from = image * (group->pooled ? pooled : size);
        const float *here = u + image * size;
        float *du = kernel ? scratch + pad * (stride + channels) : dx + image * size;
        if (group->pooled)
            pooled_backward(group, here, gradient + from, y + from, where + from, by, du, stride);
        else
            plain_backward(group, here, gradient + from, y + from, by, du, stride);
        if (!kernel) continue;
        float *to = dx ? dx + image * pixels : 0;
        if (kernel == 3)
            convolution_backward(group, 3, x + image * pixels, taps, to, dtaps, dbias, scratch);
        else
            convolution_backward(
                group, kernel, x + image * pixels, taps, to, dtaps, dbias, scratch);
    }
}
