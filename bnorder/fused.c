/* Layers of a network in as few passes over memory as they need, forwards and backwards, on one
   core. Tensors are float32 and lie channels last: (images, height, width, channels).

   A group of layers, each of which may be missing, is

       u = act1(convolution(x))        of an image of one channel, or of many by 3 x 3 taps
       y = act2(pool(scale * u + shift))        batch norm is scale and shift

   A vector holds neighbouring channels, of which there are a multiple of 16. What is not a number
   stays one. Sums over a batch run in float32 within an image and in float64 from image to image.

   Source: Ioffe & Szegedy (2015), algorithm 1, and its derivative. */

#include "narrow.h"
#include "winograd.h"
#include "classifier.h"

/* A group of layers, and the shape of u. Without pooling and convolution the place of a pixel does
   not matter, and a row of several pixels may pass for one of more channels. Without BN there is no
   act1. */
typedef struct {
    int64_t images, height, width, channels;
    int64_t replicas, inputs, kernel; /* of the convolution; inputs: a replica's; kernel 0: none */
    int64_t planar;                   /* x has a plane for each channel: only if inputs is 1 */
    int64_t pooled;
    Activation act1, act2;
} Group;

/* Batch norm of channels / tile channels, as its tensors have them. */
typedef struct {
    int64_t tile; /* pixels that pass for one */
    int64_t by_batch;
    const float *gamma, *beta;
    float *running_mean, *running_variance;
    int64_t *batches;
    float eps, momentum;
} BatchNorm;

/* What BN is in a pass: of each channel of u the mean, 1 / its standard deviation, and BN as
   scale * u + shift. */
typedef struct {
    float *mean, *inverse, *scale, *shift;
} Statistics;

INLINE Statistics statistics_at(const Group *group, float *stats) {
    const int64_t channels = group->channels;
    return (Statistics){stats, stats + channels, stats + 2 * channels, stats + 3 * channels};
}

/* What is kept of a pass, or of an image in it. */
typedef struct {
    double *sums;         /* (2, channels) */
    float *b, *k;         /* of `before_act1`, (channels,) */
    float *taps, *dtaps;  /* of the convolution */
    float *image;         /* what the convolution of an image needs besides it: begins with zeros */
    float *u;             /* of one image; du with its margin */
} Scratch;

INLINE int is_wide(const Group *group) { return group->inputs > 1; }

INLINE Convolution convolution_of(const Group *group) {
    const int64_t outputs = group->channels / group->replicas;
    return (Convolution){group->height, group->width, group->replicas, group->inputs, outputs,
                         group->kernel};
}

INLINE int64_t x_size(const Group *group) {
    const int64_t channels = group->kernel ? group->replicas * group->inputs : group->channels;
    return group->height * group->width * channels;
}

INLINE int64_t u_size(const Group *group) {
    return group->height * group->width * group->channels;
}

INLINE int64_t y_size(const Group *group) {
    if (!group->pooled) return u_size(group);
    return (group->height / 2) * (group->width / 2) * group->channels;
}

/* du of a convolution of one channel has a margin of zeros around it. */
INLINE int64_t margin(const Group *group) { return is_wide(group) ? 0 : group->kernel / 2; }

INLINE int64_t framed_size(const Group *group) {
    const int64_t pads = 2 * margin(group);
    return (group->height + pads) * (group->width + pads) * group->channels;
}

INLINE int64_t taps_size(const Group *group) {
    const int64_t places = is_wide(group) ? PLACES : group->kernel * group->kernel;
    return group->channels * group->inputs * places;
}

INLINE int64_t image_size(const Group *group) {
    if (!group->kernel) return 0;
    const Convolution shape = convolution_of(group);
    return is_wide(group) ? convolution_room(&shape) : planes_size(&shape);
}

INLINE Scratch split(const Group *group, float *scratch) {
    const int64_t channels = group->channels, taps = taps_size(group);
    Scratch room;
    room.sums = (double *)scratch;
    room.b = scratch + 4 * channels;
    room.k = room.b + channels;
    room.taps = room.k + channels;
    room.dtaps = room.taps + taps;
    room.image = room.dtaps + taps;
    room.u = room.image + image_size(group);
    return room;
}

/* Numbers that `scratch` has to have room for. */
int64_t room(const Group *group) {
    return 6 * group->channels + 2 * taps_size(group) + image_size(group) + framed_size(group);
}

INLINE void clear(float *numbers, int64_t count) {
    memset(numbers, 0, sizeof(float) * (size_t)count);
}

/* Taps of the weights, and zeros that pad an image. */
static void get_ready(const Group *group, const float *weight, int64_t backwards, Scratch room) {
    if (!group->kernel) return;
    const Convolution shape = convolution_of(group);
    if (is_wide(group)) spread_taps(&shape, weight, backwards, room.taps);
    else taps_of(&shape, weight, room.taps);
    clear(room.image, is_wide(group) ? line_size(&shape) : planes_size(&shape));
}

/* ---- forwards ---- */

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
            UNROLL(4)
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

/* A value near each channel's mean, by which its numbers are shifted: their squares' mean less
   their mean's square then keeps its digits. It is one image's. sums: (2, channels), left zero. */
static void find_pivot(const Group *group, const float *u, float *pivot, double *sums) {
    const int64_t rows = group->height * group->width, channels = group->channels;
    memset(pivot, 0, sizeof(float) * (size_t)channels);
    add_moments(group, u, pivot, sums);
    for (int64_t c = 0; c < channels; c++) pivot[c] = (float)(sums[c] / (double)rows);
    memset(sums, 0, 2 * sizeof(double) * (size_t)channels);
}

/* u of one image. */
static void before_bn(const Group *group, Activation act, const float *x, const float *bias,
                      float *u, Scratch room) {
    const Convolution shape = convolution_of(group);
    if (is_wide(group)) {
        WITH(convolve_tiles, act, &shape, x, room.taps, bias, u, room.image);
    } else if (group->kernel) {
        pad_image(&shape, group->planar, x, room.image);
        if (group->kernel == 3)
            WITH(convolve_planes, act, &shape, 3, room.image, room.taps, bias, u);
        else
            WITH(convolve_planes, act, &shape, group->kernel, room.image, room.taps, bias, u);
    } else if (u != x) {
        WITH(activate_with, act, u_size(group), x, u);
    }
}

/* Statistics of one channel, which is every (channels / tile)th of u's, and scale and shift. */
static void settle(const Group *group, const BatchNorm *norm, int64_t c, float mean,
                   float variance, Statistics to) {
    const float inverse = 1 / __builtin_sqrtf(variance + norm->eps);
    const float scale = norm->gamma[c] * inverse, shift = norm->beta[c] - mean * scale;
    for (int64_t at = c; at < group->channels; at += group->channels / norm->tile) {
        to.mean[at] = mean;
        to.inverse[at] = inverse;
        to.scale[at] = scale;
        to.shift[at] = shift;
    }
}

static void settle_running(const Group *group, const BatchNorm *norm, Statistics to) {
    for (int64_t c = 0; c < group->channels / norm->tile; c++)
        settle(group, norm, c, norm->running_mean[c], norm->running_variance[c], to);
}

/* Those of a batch, whose sums are of (u - to.mean) and its square; moves running statistics as
   PyTorch does: an average over batches, of the unbiased variance. */
static void settle_batch(const Group *group, const BatchNorm *norm, const double *sums,
                         Statistics to) {
    const int64_t channels = group->channels / norm->tile;
    const double rows = (double)(group->images * group->height * group->width);
    const double count = rows * (double)norm->tile;
    for (int64_t c = 0; c < channels; c++) {
        double mean = 0, spread = 0;
        for (int64_t at = c; at < group->channels; at += channels)
            mean += (to.mean[at] + sums[at] / rows) / (double)norm->tile;
        for (int64_t at = c; at < group->channels; at += channels) {
            const double shifted = sums[at] / rows, off = to.mean[at] + shifted - mean;
            spread += sums[group->channels + at] / rows - shifted * shifted + off * off;
        }
        spread /= (double)norm->tile;
        if (spread < 0) spread = 0; /* what is not a number stays */
        const float variance = (float)spread, unbiased = (float)(spread * count / (count - 1));
        float *running = norm->running_mean + c;
        *running += norm->momentum * ((float)mean - *running);
        running = norm->running_variance + c;
        *running += norm->momentum * (unbiased - *running);
        settle(group, norm, c, (float)mean, variance, to);
    }
    *norm->batches += 1;
}

/* The u of each 2 x 2 window that BN will make the greatest, and its place there, 0 to 3. BN's
   scale has the sign of gamma, so that the batch need not be known. gamma: null without BN. */
INLINE void pick_with(const Group *group, const float *gamma, const float *u, float *largest,
                      uint8_t *where) {
    const int64_t channels = group->channels, line = group->width * channels;
    const int64_t offsets[4] = {0, channels, line, line + channels};
    int64_t to = 0;
    for (int64_t i = 0; i + 1 < group->height; i += 2)
        for (int64_t j = 0; j + 1 < group->width; j += 2)
            for (int64_t c = 0; c < channels; c += LANES, to += LANES) {
                const float *at = u + i * line + j * channels + c;
                const Vector factor = gamma ? LOAD(gamma + c) : ZERO;
                Vector taken = LOAD(at), best = gamma ? factor * taken : taken, total = best;
                Whole place = {0};
                UNROLL(3)
                for (int k = 1; k < 4; k++) {
                    const Vector here = LOAD(at + offsets[k]), z = gamma ? factor * here : here;
                    const Whole more = z > best;
                    total += z;
                    best = choose(more, z, best);
                    taken = choose(more, here, taken);
                    place = (more & k) | (place & ~more);
                }
                STORE(largest + to, taken + (total - total)); /* keeps NaN */
                if (where) *(Bytes *)(where + to) = __builtin_convertvector(place, Bytes);
            }
}

static void pick(const Group *group, const BatchNorm *norm, const float *u, float *largest,
                 uint8_t *where) {
    if (norm && where) pick_with(group, norm->gamma, u, largest, where);
    else if (norm) pick_with(group, norm->gamma, u, largest, 0);
    else if (where) pick_with(group, 0, u, largest, where);
    else pick_with(group, 0, u, largest, 0);
}

INLINE void normalise_with(Activation act, int64_t channels, int64_t rows, const float *u,
                           Statistics by, float *y) {
    for (int64_t row = 0; row < rows; row++)
        for (int64_t c = 0; c < channels; c += LANES) {
            const Vector here = LOAD(u + row * channels + c);
            const Vector z = LOAD(by.scale + c) * here + LOAD(by.shift + c);
            STORE(y + row * channels + c, activate(z, act));
        }
}

/* act2(scale * u + shift) of so many images' u or `largest`, which may be where y is. */
static void after_bn(const Group *group, const BatchNorm *norm, Statistics found, int64_t images,
                     const float *u, float *y) {
    const int64_t channels = group->channels, size = images * y_size(group);
    if (norm)
        WITH(normalise_with, group->act2, channels, size / channels, u, found, y);
    else WITH(activate_with, group->act2, size, u, y);
}

/* y where BN asks for the batch: what it works on is read once more when all of it is there. */
static void by_batch(const Group *group, const BatchNorm *norm, const float *x, const float *bias,
                     float *u, Statistics found, float *y, float *largest, uint8_t *where,
                     Scratch room) {
    const int64_t pooled = y_size(group);
    memset(room.sums, 0, 2 * sizeof(double) * (size_t)group->channels);
    for (int64_t image = 0; image < group->images; image++) {
        float *here = u + image * u_size(group);
        before_bn(group, group->act1, x + image * x_size(group), bias, here, room);
        if (!image) find_pivot(group, here, found.mean, room.sums);
        add_moments(group, here, found.mean, room.sums);
        if (group->pooled)
            pick(group, norm, here, largest + image * pooled, where ? where + image * pooled : 0);
    }
    settle_batch(group, norm, room.sums, found);
    after_bn(group, norm, found, group->images, group->pooled ? largest : u, y);
}

/* y where scale and shift are known beforehand, or there is no BN: image by image. */
static void by_image(const Group *group, const BatchNorm *norm, const float *x, const float *bias,
                     float *u, Statistics found, float *y, float *largest, uint8_t *where,
                     Scratch room) {
    for (int64_t image = 0; image < group->images; image++) {
        const int64_t at = image * y_size(group);
        const float *from = x + image * x_size(group);
        if (!norm && !group->pooled) {
            before_bn(group, group->act2, from, bias, y + at, room);
            continue;
        }
        float *here = u ? u + image * u_size(group) : room.u;
        before_bn(group, group->act1, from, bias, here, room);
        if (group->pooled) {
            float *taken = largest ? largest + at : y + at;
            pick(group, norm, here, taken, where ? where + at : 0);
            here = taken;
        }
        after_bn(group, norm, found, 1, here, y + at);
    }
}

/* y of x; norm: null without BN. weight: (channels, kernel, kernel, inputs); bias: may be null.
   stats: (4, channels) to be written. u: x where there is neither convolution nor act1; null where
   neither a batch's BN nor a derivative needs it, and so are `largest` and `where`. */
void forward(const Group *group, const BatchNorm *norm, const float *x, const float *weight,
             const float *bias, float *u, float *stats, float *y, float *largest, uint8_t *where,
             float *scratch) {
    const Scratch room = split(group, scratch);
    const Statistics found = statistics_at(group, stats);
    get_ready(group, weight, 0, room);
    if (norm && norm->by_batch) {
        by_batch(group, norm, x, bias, u, found, y, largest, where, room);
    } else {
        if (norm) settle_running(group, norm, found);
        by_image(group, norm, x, bias, u, found, y, largest, where, room);
    }
}

/* ---- the batch ---- */

/* Asks memory for an image, which is no neighbour of the last one. */
INLINE void fetch(const uint8_t *image, int64_t size) {
    for (int64_t at = 0; at < size; at += 64) __builtin_prefetch(image + at);
}

/* Pixels of a batch, each as (pixel - offset) * scale: (batch, pixels, replicas * channels) or, if
   `planar`, (batch, replicas * channels, pixels).
   images: (n, channels, pixels); index: (batch, replicas); offset, scale: (channels,) */
void take(const uint8_t *restrict images, int64_t channels, int64_t pixels,
          const int64_t *restrict index, int64_t batch, int64_t replicas,
          const float *restrict offset, const float *restrict scale, int64_t planar,
          float *restrict out) {
    const int64_t planes = replicas * channels, size = channels * pixels, ahead = 2 * replicas;
    for (int64_t row = 0; row < batch; row++, out += pixels * planes)
        for (int64_t plane = 0; plane < planes; plane++) {
            const int64_t c = plane % channels, at = row * replicas + plane / channels;
            const uint8_t *from = images + index[at] * size + c * pixels;
            float *to = out + (planar ? plane * pixels : plane);
            if (c == 0 && at + ahead < batch * replicas)
                fetch(images + index[at + ahead] * size, size);
            if (planar)
                for (int64_t pixel = 0; pixel < pixels; pixel++)
                    to[pixel] = (from[pixel] - offset[c]) * scale[c];
            else
                for (int64_t pixel = 0; pixel < pixels; pixel++)
                    to[pixel * planes] = (from[pixel] - offset[c]) * scale[c];
        }
}

/* One step of Adam (Kingma & Ba 2015) for `tensors` tensors of `counts` numbers each, as PyTorch
   computes it. steps: one number a tensor, which counts the step. */
void adam(int64_t tensors, const int64_t *counts, float *const *parameters,
          const float *const *gradients, float *const *means, float *const *squares,
          float *const *steps, double rate, double beta1, double beta2, double eps,
          double weight_decay) {
    for (int64_t tensor = 0; tensor < tensors; tensor++) {
        const double step = *steps[tensor] += 1;
        const float size = (float)(rate / (1 - pow(beta1, step)));
        const float correction = (float)sqrt(1 - pow(beta2, step));
        const float new1 = (float)(1 - beta1), new2 = (float)(1 - beta2), old2 = (float)beta2;
        const float decay = (float)weight_decay, least = (float)eps;
        float *restrict parameter = parameters[tensor], *restrict mean = means[tensor];
        float *restrict square = squares[tensor];
        const float *restrict gradient = gradients[tensor];
        for (int64_t i = 0; i < counts[tensor]; i++) {
            const float g = gradient[i] + decay * parameter[i];
            mean[i] += new1 * (g - mean[i]);
            square[i] = old2 * square[i] + new2 * g * g;
            parameter[i] -= size * mean[i] / (__builtin_sqrtf(square[i]) / correction + least);
        }
    }
}

/* ---- backwards ---- */

/* What a group's backward pass needs of each channel: du = a * dz + b + k * (u - mean). */
typedef struct {
    const float *mean, *a, *b, *k;
} Coefficients;

/* Adds the sums of dz and of dz * (u - mean) in each channel, dz being the gradient before act2, to
   sums (2, channels). u: `largest` where the group pools; rows: of y in all. */
static void gradient_sums(const Group *group, int64_t rows, const float *u, const float *gradient,
                          const float *y, const float *mean, double *sums) {
    const int64_t channels = group->channels, stretch = 1024; /* rows to add up in float32 */
    const Activation act2 = group->act2;
    for (int64_t first = 0; first < rows; first += stretch)
        for (int64_t c = 0; c < channels; c += LANES) {
            const int64_t last = first + stretch < rows ? first + stretch : rows;
            const Vector centre = LOAD(mean + c);
            Vector s[2] = {ZERO, ZERO}, q[2] = {ZERO, ZERO};
            for (int64_t row = first; row < last; row += 2)
                UNROLL(2)
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

/* act1'(u) * (a * dz + b + k * (u - mean)); dz where there is no u */
INLINE Vector before_act1(const float *at, Vector dz, Activation act1, const Coefficients *by,
                          int64_t c) {
    if (!at) return dz;
    const Vector u = LOAD(at), centred = u - LOAD(by->mean + c);
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
                STORE(du + j + c, before_act1(u ? u + at : 0, dz, act1, by, c));
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
                UNROLL(4)
                for (int k = 0; k < 4; k++) {
                    if ((k & 1 && !right) || (k & 2 && !down)) continue;
                    const float *here = u ? u + i * line + j * channels + offsets[k] + c : 0;
                    const Vector mine = choose(place == k, dz, ZERO);
                    STORE(du + i * stride + j * channels + targets[k] + c,
                          before_act1(here, mine, act1, by, c));
                }
            }
        }
}

/* The gradients by gamma and beta, and b and k of `before_act1`, of sums by `gradient_sums`. */
static void settle_gradients(const Group *group, const BatchNorm *norm, Statistics found,
                             float *dgamma, float *dbeta, Scratch room) {
    const int64_t channels = group->channels / norm->tile;
    const double count = (double)(group->images * group->height * group->width * norm->tile);
    for (int64_t c = 0; c < channels; c++) {
        double sum = 0, product = 0;
        for (int64_t at = c; at < group->channels; at += channels) {
            sum += room.sums[at];
            product += room.sums[group->channels + at];
        }
        dbeta[c] = (float)sum;
        dgamma[c] = (float)product * found.inverse[c];
        const float share = norm->by_batch ? (float)(-found.scale[c] / count) : 0;
        for (int64_t at = c; at < group->channels; at += channels) {
            room.b[at] = share * dbeta[c];
            room.k[at] = share * dgamma[c] * found.inverse[c];
        }
    }
}

/* Adds one image to the gradients of its convolution; du: with its margin; dx: written, or null. */
INLINE void narrow_backward(const Group *group, int64_t kernel, const float *x, float *dx,
                            float *dbias, Scratch room) {
    const Convolution shape = convolution_of(group);
    pad_image(&shape, group->planar, x, room.image);
    weigh_planes(&shape, kernel, room.image, room.u, room.dtaps, dbias);
    if (!dx) return;
    clear(dx, x_size(group));
    image_gradient(&shape, kernel, room.u, room.taps, dx);
}

static void wide_backward(const Group *group, const float *x, float *dx, float *dbias,
                          Scratch room) {
    const Convolution shape = convolution_of(group);
    const Convolution turned = {shape.height, shape.width, shape.replicas, shape.outputs,
                                shape.inputs, shape.kernel};
    weigh_tiles(&shape, x, room.u, room.dtaps, dbias, room.image);
    if (dx) convolve_tiles(NONE, &turned, room.u, room.taps, 0, dx, room.image);
}

/* The gradients by x, unless dx is null, by weight and bias where there is a convolution, and by
   gamma and beta where there is BN. u: null where there is neither BN nor act1. */
void backward(const Group *group, const BatchNorm *norm, const float *u, float *stats,
              const float *gradient, const float *y, const float *largest, const uint8_t *where,
              const float *x, const float *weight, float *dx, float *dweight, float *dbias,
              float *dgamma, float *dbeta, float *scratch) {
    const int64_t pads = margin(group), stride = (group->width + 2 * pads) * group->channels;
    const Scratch room = split(group, scratch);
    const Statistics found = statistics_at(group, stats);
    const Coefficients by = {found.mean, found.scale, room.b, room.k};
    if (norm) {
        const int64_t rows = group->images * y_size(group) / group->channels;
        memset(room.sums, 0, 2 * sizeof(double) * (size_t)group->channels);
        gradient_sums(group, rows, largest ? largest : u, gradient, y, found.mean, room.sums);
        settle_gradients(group, norm, found, dgamma, dbeta, room);
    }
    if (!group->kernel && !dx) return;
    get_ready(group, weight, 1, room);
    clear(room.dtaps, taps_size(group));
    if (group->kernel) clear(dbias, group->channels);
    if (pads) clear(room.u, framed_size(group));
    float *du = room.u + pads * (stride + group->channels);
    for (int64_t image = 0; image < group->images; image++) {
        const float *here = u ? u + image * u_size(group) : 0;
        const int64_t from = image * y_size(group), pixels = image * x_size(group);
        float *to = dx ? dx + pixels : 0;
        if (!group->kernel) du = to;
        if (group->pooled)
            pooled_backward(group, here, gradient + from, y + from, where + from, &by, du, stride);
        else
            plain_backward(group, here, gradient + from, y + from, &by, du, stride);
        if (is_wide(group)) wide_backward(group, x + pixels, to, dbias, room);
        else if (group->kernel == 3) narrow_backward(group, 3, x + pixels, to, dbias, room);
        else if (group->kernel) narrow_backward(group, group->kernel, x + pixels, to, dbias, room);
    }
    const Convolution shape = convolution_of(group);
    if (is_wide(group)) gather_taps(&shape, room.dtaps, dweight);
    else if (group->kernel) weights_of(&shape, room.dtaps, dweight);
}
