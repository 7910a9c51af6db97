/* Convolutions of images of one channel, on one core: many outputs from one input.

   Their images have a margin of zeros, and each replica's channel is a plane of its own:
   (replicas, height + kernel - 1, width + kernel - 1).
   Taps: (replicas, kernel * kernel, outputs). */

#include "vectors.h"

INLINE int64_t planes_size(const Convolution *shape) {
    const int64_t margin = shape->kernel - 1;
    return shape->replicas * (shape->height + margin) * (shape->width + margin);
}

/* An image into its margin. planar: its channels are planes already, and not neighbours. */
static void pad_image(const Convolution *shape, int64_t planar, const float *image, float *padded) {
    const int64_t pad = shape->kernel / 2, width = shape->width + 2 * pad;
    const int64_t plane = (shape->height + 2 * pad) * width, pixels = shape->height * shape->width;
    const int64_t step = planar ? 1 : shape->replicas;
    for (int64_t replica = 0; replica < shape->replicas; replica++)
        for (int64_t i = 0; i < shape->height; i++) {
            const float *from = image + replica * (planar ? pixels : 1) + i * shape->width * step;
            float *to = padded + replica * plane + (i + pad) * width + pad;
            if (planar) memcpy(to, from, sizeof(float) * (size_t)shape->width);
            else
                for (int64_t j = 0; j < shape->width; j++) to[j] = from[j * step];
        }
}

/* act(convolution) of one image, four pixels at a time where a row has them; bias: (channels,) or
   null. */
INLINE void convolve_planes(Activation act, const Convolution *shape, int64_t kernel,
                          const float *restrict padded, const float *restrict taps,
                          const float *restrict bias, float *restrict to) {
    const int64_t outputs = shape->outputs, channels = shape->replicas * outputs;
    const int64_t width = shape->width + kernel - 1;
    const int64_t plane = (shape->height + kernel - 1) * width;
    for (int64_t c = 0; c < channels; c += LANES) {
        const float *from = padded + c / outputs * plane;
        const float *weight = taps + c / outputs * kernel * kernel * outputs + c % outputs;
        const Vector start = bias ? LOAD(bias + c) : ZERO;
        for (int64_t i = 0; i < shape->height; i++) {
            float *at = to + i * shape->width * channels + c;
            int64_t j = 0;
            for (; j + 4 <= shape->width; j += 4) {
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
                STORE(at + j * channels, activate(s0, act));
                STORE(at + (j + 1) * channels, activate(s1, act));
                STORE(at + (j + 2) * channels, activate(s2, act));
                STORE(at + (j + 3) * channels, activate(s3, act));
            }
            for (; j < shape->width; j++) {
                Vector sum = start;
                for (int64_t p = 0; p < kernel; p++)
                    for (int64_t q = 0; q < kernel; q++)
                        sum += from[(i + p) * width + j + q] *
                               LOAD(weight + (p * kernel + q) * outputs);
                STORE(at + j * channels, activate(sum, act));
            }
        }
    }
}

/* Adds an image's part of the gradients by taps and bias.
   padded: the image, du: its gradient, both with their margins. */
INLINE void weigh_planes(const Convolution *shape, int64_t kernel, const float *restrict padded,
                                const float *restrict du, float *dtaps, float *dbias) {
    const int64_t outputs = shape->outputs, channels = shape->replicas * outputs;
    const int64_t width = shape->width + kernel - 1, pad = kernel / 2;
    const int64_t plane = (shape->height + kernel - 1) * width;
    const int64_t together = kernel == 3 ? 3 : 1; /* rows of taps: nine sums fit in registers */
    for (int64_t c = 0; c < channels; c += LANES) {
        const float *from = padded + c / outputs * plane;
        float *to = dtaps + c / outputs * kernel * kernel * outputs + c % outputs;
        for (int64_t first = 0; first < kernel; first += together) {
            Vector sums[16] = {ZERO}, total = ZERO;
            for (int64_t i = 0; i < shape->height; i++)
                for (int64_t j = 0; j < shape->width; j++) {
                    const Vector d = LOAD(du + ((i + pad) * width + j + pad) * channels + c);
                    UNROLL(3)
                    for (int64_t p = 0; p < together; p++)
                        UNROLL(3)
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

/* Adds the gradient by the image, (height, width, replicas). du: with its margin of zeros. */
INLINE void image_gradient(const Convolution *shape, int64_t kernel, const float *restrict du,
                           const float *restrict taps, float *restrict dx) {
    const int64_t outputs = shape->outputs, channels = shape->replicas * outputs;
    const int64_t width = shape->width + kernel - 1, last = kernel - 1;
    for (int64_t c = 0; c < channels; c += LANES) {
        const int64_t replica = c / outputs;
        const float *weight = taps + replica * kernel * kernel * outputs + c % outputs;
        Vector held[9]; /* in registers, where there are no more */
        for (int64_t tap = 0; tap < 9 && kernel == 3; tap++)
            held[tap] = LOAD(weight + tap * outputs);
        for (int64_t i = 0; i < shape->height; i++)
            for (int64_t j = 0; j < shape->width; j++) {
                Vector sum = ZERO;
                UNROLL(3)
                for (int64_t p = 0; p < kernel; p++)
                    UNROLL(3)
                    for (int64_t q = 0; q < kernel; q++) {
                        const int64_t tap = p * kernel + q;
                        const Vector w = kernel == 3 ? held[tap] : LOAD(weight + tap * outputs);
                        const int64_t at = (i + last - p) * width + j + last - q;
                        sum += w * LOAD(du + at * channels + c);
                    }
                dx[(i * shape->width + j) * shape->replicas + replica] += sum_of(sum);
            }
    }
}

/* Taps of weights (replicas * outputs, kernel, kernel), and weights of taps. */
static void taps_of(const Convolution *shape, const float *weight, float *taps) {
    const int64_t outputs = shape->outputs, count = shape->kernel * shape->kernel;
    for (int64_t o = 0; o < shape->replicas * outputs; o++)
        for (int64_t tap = 0; tap < count; tap++)
            taps[(o / outputs * count + tap) * outputs + o % outputs] = weight[o * count + tap];
}

static void weights_of(const Convolution *shape, const float *taps, float *weight) {
    const int64_t outputs = shape->outputs, count = shape->kernel * shape->kernel;
    for (int64_t o = 0; o < shape->replicas * outputs; o++)
        for (int64_t tap = 0; tap < count; tap++)
            weight[o * count + tap] = taps[(o / outputs * count + tap) * outputs + o % outputs];
}
