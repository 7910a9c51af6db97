/* Layers of packed replicas in few passes over a GPU's memory, forwards and backwards. Tensors are
   float32 and lie channels last: (images, height, width, channels), with the channels of each
   replica side by side. The same layers as fused.c computes on a processor's core.

   A convolution has as many groups as there are replicas, stride 1 and zeros around the image. What
   lies between two convolutions is a group of layers, each of which may be missing:

       v = act1(u),   z = batch norm of v,   y = act2(pool(z))

   Sums over a batch run in float32 within a thread and in float64 from there on, always in the same
   order: two runs give the same bits. What is not a number stays one.

   Each kernel takes one structure; fused_gpu.py reads their fields from this file. Sizes in capital
   letters are set when it is compiled, for one shape of convolution each (see fused_gpu.py).

   Sources: Ioffe & Szegedy (2015), algorithm 1, and its derivative. */

#ifdef __CUDACC_RTC__
#ifndef CROWD
#define CROWD 1 /* blocks that a processor has to have room for: it limits their registers */
#endif
#define KERNEL(name, Arguments) \
    extern "C" __global__ void __launch_bounds__(THREADS, CROWD) name(const Arguments a)
#define INLINE static __device__ __forceinline__
#define ALIGNED __align__(16)
#define BYTES_OF(n) __align__(n)
#define VECTOR_OF(n) __align__((n) % 4 ? 4 : 16)
#define UNROLL _Pragma("unroll")
#define UNROLL_4 _Pragma("unroll 4")
#else
#include "cuda_on_cpu.h"
#endif

/* Above zero an activation is the identity; below it is slope * x, or exp(x) - 1 if `elu`.
   Its derivative there is gain * value + slope: 0 * value + slope, or 1 * value + 1. */
typedef struct {
    int elu;
    float gain, slope;
} Activation;

#ifndef VECTOR
#define VECTOR 4
#endif

/* Neighbours that are read and written at once; four of them lie at a multiple of 16 bytes. */
typedef struct {
    VECTOR_OF(VECTOR) float at[VECTOR];
} Vector;

INLINE float activate(float x, Activation act) {
    return x > 0 ? x : act.elu ? expm1f(x) : act.slope * x;
}

INLINE float derivative(float value, Activation act) {
    return value > 0 ? 1 : act.gain * value + act.slope;
}

#ifdef SIDE
/* ---- convolutions of IN channels of HEIGHT x WIDTH pixels, with kernels of SIDE x SIDE ---- */

#define PAD (SIDE / 2)
#define TAPS (SIDE * SIDE)
#define SEGMENTS ((WIDTH + SEGMENT - 1) / SEGMENT) /* of a row, in which a thread slides */

/* w_*: how far apart neighbouring weights are, by output, input, row and column.
   flip: 1 gives the gradient by the inputs: IN and OUT are then the outputs' and the inputs'. */
typedef struct {
    const float *x, *weight, *bias; /* bias may be null */
    float *y;
    int images, replicas;
    int w_out, w_in, w_row, w_column, flip;
} Convolution;

#ifdef GROUP
#define PITCH ((SEGMENTS * SEGMENT + SIDE - 1) | 1) /* odd: neighbouring rows in other banks */
#define PLANE (((HEIGHT + SIDE - 1) * PITCH + 5) / 8 * 8 + 2) /* 2 of 8: so do quads of channels */
#define QUADS (CHUNK / READ) /* READ neighbouring channels are read at once */

typedef struct {
    VECTOR_OF(READ) float at[READ];
} Channels;
typedef struct {
    VECTOR_OF(GROUP) float at[GROUP];
} Outputs;

/* y = convolution(x) + bias. A block has IMAGES images of one replica; CHUNK channels at a time are
   in its shared memory; a thread has SEGMENT neighbouring pixels of GROUP outputs. */
KERNEL(convolve, Convolution) {
    ALIGNED __shared__ float x[IMAGES * CHUNK * PLANE];
    ALIGNED __shared__ float weight[CHUNK * TAPS * OUT];
    const int thread = threadIdx.x, replica = blockIdx.y, first = blockIdx.x * IMAGES;
    const int group = thread % (OUT / GROUP), segment = thread / (OUT / GROUP) % SEGMENTS;
    const int row = thread / (OUT / GROUP) / SEGMENTS % HEIGHT;
    const int image = thread / (OUT / GROUP) / (SEGMENTS * HEIGHT);
    float sum[GROUP][SEGMENT];
    UNROLL for (int o = 0; o < GROUP; o++) UNROLL for (int j = 0; j < SEGMENT; j++) sum[o][j] = 0;

    for (int from = 0; from < IN; from += CHUNK) {
        __syncthreads();
        for (int i = thread; i < IMAGES * PLANE * QUADS; i += THREADS) {
            const int k = i % QUADS * READ, at = i / QUADS % PLANE, n = i / QUADS / PLANE;
            const int r = at / PITCH - PAD, c = at % PITCH - PAD, inside =
                first + n < a.images && r >= 0 && r < HEIGHT && c >= 0 && c < WIDTH;
            const int pixel = ((first + n) * HEIGHT + r) * WIDTH + c;
            Channels read = {{0}};
            if (inside)
                read = *(const Channels *)(a.x + (pixel * a.replicas + replica) * IN + from + k);
            UNROLL for (int j = 0; j < READ; j++) x[(n * CHUNK + k + j) * PLANE + at] = read.at[j];
        }
        for (int i = thread; i < CHUNK * TAPS * OUT; i += THREADS) {
            const int out = i % OUT, tap = i / OUT % TAPS, in = from + i / (OUT * TAPS);
            const int r = a.flip ? SIDE - 1 - tap / SIDE : tap / SIDE;
            const int c = a.flip ? SIDE - 1 - tap % SIDE : tap % SIDE;
            const int at = a.flip ? (replica * IN + in) * a.w_out + out * a.w_in
                                  : (replica * OUT + out) * a.w_out + in * a.w_in;
            weight[i] = a.weight[at + r * a.w_row + c * a.w_column];
        }
        __syncthreads();
        UNROLL for (int k = 0; k < CHUNK; k++)
            UNROLL for (int r = 0; r < SIDE; r++) {
                const float *source = x + (image * CHUNK + k) * PLANE + (row + r) * PITCH;
                float pixel[SEGMENT + SIDE - 1];
                UNROLL for (int j = 0; j < SEGMENT + SIDE - 1; j++)
                    pixel[j] = source[segment * SEGMENT + j];
                UNROLL for (int c = 0; c < SIDE; c++)
                    UNROLL for (int o = 0; o < GROUP; o++) {
                        const float w = weight[((k * SIDE + r) * SIDE + c) * OUT + group * GROUP + o];
                        UNROLL for (int j = 0; j < SEGMENT; j++) sum[o][j] += w * pixel[j + c];
                    }
            }
    }
    if (first + image >= a.images) return;
    const int channel = replica * OUT + group * GROUP;
    float *target = a.y + ((first + image) * HEIGHT + row) * WIDTH * (a.replicas * OUT) + channel;
    UNROLL for (int j = 0; j < SEGMENT; j++)
        if (segment * SEGMENT + j < WIDTH) {
            Outputs out;
            UNROLL for (int o = 0; o < GROUP; o++)
                out.at[o] = sum[o][j] + (a.bias ? a.bias[channel + o] : 0);
            *(Outputs *)(target + (segment * SEGMENT + j) * (a.replicas * OUT)) = out;
        }
}
#endif

#ifdef BAND
typedef struct {
    const float *x, *dy;
    float *partial; /* (blocks, replicas, OUT, IN, TAPS) */
    int images, replicas;
} WeightGradient;

typedef struct {
    VECTOR_OF(X_VECTOR) float at[X_VECTOR];
} Inputs;

#define THREADS_A_STRIPE (IN * (OUT / 4))
#define STRIPES (THREADS / THREADS_A_STRIPE)
#define X_PITCH ((WIDTH + SIDE - 1) * IN)
#define DY_PITCH (SEGMENTS * SEGMENT * OUT + 16) /* 16: rows that a warp reads lie in other banks */
#define X_FLOATS (IMAGES * (BAND + SIDE - 1) * X_PITCH)
#define DIRECT (IN == 1) /* no two threads read the same dy: it need not be in shared memory */
#define DY_FLOATS (DIRECT ? 0 : IMAGES * BAND * DY_PITCH)
#define X_ROOM ((X_FLOATS + SEGMENT * IN + 3) / 4 * 4) /* a segment may end beyond the last row */
#define ROOM (X_ROOM + DY_FLOATS > THREADS * 4 ? X_ROOM + DY_FLOATS : THREADS * 4)

/* The gradient by the weights, summed over each block's share of the images. A block has BAND rows
   of IMAGES images in shared memory at a time; a thread slides along SEGMENT pixels with all taps
   of one input and four outputs; stripes of threads take the rows and their segments in turn. */
KERNEL(weight_gradient, WeightGradient) {
    ALIGNED __shared__ float shared[ROOM];
    float *const x = shared, *const dy = shared + X_ROOM;
    const int thread = threadIdx.x, replica = blockIdx.y;
    const int in = thread % IN, out = thread / IN % (OUT / 4) * 4, stripe = thread / THREADS_A_STRIPE;
    float sum[4][TAPS];
    UNROLL for (int o = 0; o < 4; o++) UNROLL for (int tap = 0; tap < TAPS; tap++) sum[o][tap] = 0;

    for (int i = X_FLOATS + thread; i < X_ROOM; i += THREADS) x[i] = 0;
    const int bands = (HEIGHT + BAND - 1) / BAND, parts = (a.images + IMAGES - 1) / IMAGES * bands;
    for (int part = blockIdx.x; part < parts; part += gridDim.x) {
        const int first = part / bands * IMAGES, top = part % bands * BAND;
        __syncthreads();
        for (int i = thread * X_VECTOR; i < X_FLOATS; i += THREADS * X_VECTOR) {
            const int c = i % X_PITCH / IN - PAD, r = top + i / X_PITCH % (BAND + SIDE - 1) - PAD;
            const int n = first + i / (X_PITCH * (BAND + SIDE - 1));
            const int inside = n < a.images && r >= 0 && r < HEIGHT && c >= 0 && c < WIDTH;
            const int at = ((n * HEIGHT + r) * WIDTH + c) * (a.replicas * IN) + replica * IN + i % IN;
            Inputs pixel = {{0}};
            if (inside) pixel = *(const Inputs *)(a.x + at);
            *(Inputs *)(x + i) = pixel;
        }
        for (int i = thread * VECTOR; i < DY_FLOATS; i += THREADS * VECTOR) {
            const int c = i % DY_PITCH / OUT, r = top + i / DY_PITCH % BAND;
            const int n = first + i / (DY_PITCH * BAND);
            const int at = ((n * HEIGHT + r) * WIDTH + c) * (a.replicas * OUT) + replica * OUT + i % DY_PITCH % OUT;
            Vector gradient = {{0}};
            if (n < a.images && r < HEIGHT && c < WIDTH) gradient = *(const Vector *)(a.dy + at);
            *(Vector *)(dy + i) = gradient;
        }
        __syncthreads();
        if (stripe >= STRIPES) continue;
        for (int unit = stripe; unit < IMAGES * BAND * SEGMENTS; unit += STRIPES) {
            const int segment = unit % SEGMENTS, r = unit / SEGMENTS % BAND, n = unit / (SEGMENTS * BAND);
            const float *from = x + (n * (BAND + SIDE - 1) + r) * X_PITCH + segment * SEGMENT * IN + in;
            const int image = first + n, row = top + r, stride = DIRECT ? a.replicas * OUT : OUT;
            const float *by = dy + (n * BAND + r) * DY_PITCH + segment * SEGMENT * OUT + out;
            if (DIRECT) {
                if (image >= a.images || row >= HEIGHT) continue;
                by = a.dy + ((image * HEIGHT + row) * WIDTH + segment * SEGMENT) * stride + replica * OUT + out;
            }
            float window[SIDE][SIDE];
            UNROLL for (int k = 0; k < SIDE; k++)
                UNROLL for (int c = 0; c < SIDE - 1; c++) window[k][c] = from[k * X_PITCH + c * IN];
            UNROLL for (int j = 0; j < SEGMENT; j++) {
                UNROLL for (int k = 0; k < SIDE; k++)
                    window[k][(j + SIDE - 1) % SIDE] = from[k * X_PITCH + (j + SIDE - 1) * IN];
                Vector d = {{0}};
                if (!DIRECT || segment * SEGMENT + j < WIDTH) d = *(const Vector *)(by + j * stride);
                UNROLL for (int o = 0; o < 4; o++)
                    UNROLL for (int tap = 0; tap < TAPS; tap++)
                        sum[o][tap] += d.at[o] * window[tap / SIDE][(j + tap % SIDE) % SIDE];
            }
        }
    }
    float *const all = shared; /* (THREADS, 4): the sums by one tap at a time */
    UNROLL for (int tap = 0; tap < TAPS; tap++) {
        __syncthreads();
        UNROLL for (int o = 0; o < 4; o++) all[thread * 4 + o] = sum[o][tap];
        __syncthreads();
        for (int i = thread; i < OUT * IN; i += THREADS) {
            const int o = i / IN, owner = i % IN + o / 4 * IN;
            float total = 0;
            for (int s = 0; s < STRIPES; s++) total += all[(s * THREADS_A_STRIPE + owner) * 4 + o % 4];
            a.partial[((blockIdx.x * a.replicas + replica) * (OUT * IN) + i) * TAPS + tap] = total;
        }
    }
}
#endif

#elif defined(CLASSES)
/* ---- the classifier: logits of CLASSES from all of an image's numbers ---- */

typedef struct {
    const float *logits; /* (replicas, images, CLASSES) */
    const long long *labels, *position; /* (replicas, images); the row of losses and correct */
    float *dlogits, *losses; /* losses: (rows, replicas) */
    long long *correct; /* (rows, replicas) */
    int images;
} Loss;

/* The mean cross-entropy of a replica, its gradient, and how many answers are correct; the first of
   equal logits is the answer, and one that is not a number is the largest. A block a replica. */
KERNEL(cross_entropy, Loss) {
    __shared__ float losses[THREADS];
    __shared__ int correct[THREADS];
    const int thread = threadIdx.x, replica = blockIdx.x;
    float loss = 0;
    int right = 0;
    for (int n = thread; n < a.images; n += THREADS) {
        const int at = replica * a.images + n;
        const float *logits = a.logits + at * CLASSES;
        const int label = (int)a.labels[at];
        int answer = 0;
        for (int k = 1; k < CLASSES; k++) {
            const float best = logits[answer];
            if (logits[k] > best || (logits[k] != logits[k] && best == best)) answer = k;
        }
        float sum = 0;
        for (int k = 0; k < CLASSES; k++) sum += expf(logits[k] - logits[answer]);
        for (int k = 0; k < CLASSES; k++)
            a.dlogits[at * CLASSES + k] =
                (expf(logits[k] - logits[answer]) / sum - (k == label)) / a.images;
        loss += logf(sum) + logits[answer] - logits[label];
        right += answer == label;
    }
    losses[thread] = loss;
    correct[thread] = right;
    for (int step = THREADS / 2; step; step /= 2) {
        __syncthreads();
        if (thread < step) {
            losses[thread] += losses[thread + step];
            correct[thread] += correct[thread + step];
        }
    }
    if (thread) return;
    const long long to = a.position[0] * gridDim.x + replica;
    a.losses[to] = losses[0] / a.images;
    a.correct[to] = correct[0];
}

/* Features lie as (images, PIXELS, replicas, CHANNELS); a weight's are (CHANNELS, PIXELS). */
typedef struct {
    const float *x, *weight, *bias; /* weight: (replicas, CLASSES, FEATURES) */
    const float *dlogits; /* null forwards */
    float *logits, *dx, *dweight, *dbias; /* logits: (replicas, images, CLASSES) */
    int images, replicas;
} Classifier;

#define FEATURES (PIXELS * CHANNELS)
#define BESIDE 8 /* images of a block; or stripes of threads that take the images in turn */
#define LANES (THREADS / BESIDE)
#define PITCH (CHANNELS + 1) /* odd where CHANNELS are even: neighbouring pixels in other banks */
#define TILE (ROOM / CLASSES / PITCH) /* pixels whose weights are in shared memory at a time */
#define PLACE(image, f) \
    (((image) * PIXELS + (f) / CHANNELS) * (a.replicas * CHANNELS) + replica * CHANNELS + (f) % CHANNELS)
#define IN_TILE(f) ((f) / CHANNELS * PITCH + (f) % CHANNELS)

/* A tile of a replica's weights, in the order in which features lie. */
INLINE void read_weights(const float *from, int pixel, float *weight) {
    __syncthreads();
    for (int i = threadIdx.x; i < CLASSES * CHANNELS * TILE; i += THREADS) {
        const int p = i % TILE, c = i / TILE % CHANNELS, k = i / (TILE * CHANNELS);
        weight[(k * TILE + p) * PITCH + c] =
            pixel + p < PIXELS ? from[(k * CHANNELS + c) * PIXELS + pixel + p] : 0;
    }
    __syncthreads();
}

KERNEL(classify, Classifier) {
    __shared__ float weight[ROOM];
    const int lane = threadIdx.x % LANES, replica = blockIdx.y;
    const int image = blockIdx.x * BESIDE + threadIdx.x / LANES;
    float sum[CLASSES];
    UNROLL for (int k = 0; k < CLASSES; k++) sum[k] = 0;
    for (int from = 0; from < PIXELS; from += TILE) {
        read_weights(a.weight + replica * CLASSES * FEATURES, from, weight);
        const int features = (from + TILE < PIXELS ? TILE : PIXELS - from) * CHANNELS;
        for (int f = lane; f < features && image < a.images; f += LANES) {
            const float x = a.x[PLACE(image, from * CHANNELS + f)];
            UNROLL for (int k = 0; k < CLASSES; k++) sum[k] += x * weight[k * TILE * PITCH + IN_TILE(f)];
        }
    }
    __syncthreads();
    UNROLL for (int k = 0; k < CLASSES; k++) weight[k * THREADS + threadIdx.x] = sum[k];
    __syncthreads();
    for (int i = threadIdx.x; i < BESIDE * CLASSES; i += THREADS) {
        const int n = blockIdx.x * BESIDE + i / CLASSES, k = i % CLASSES;
        float total = a.bias[replica * CLASSES + k];
        for (int j = 0; j < LANES; j++) total += weight[k * THREADS + i / CLASSES * LANES + j];
        if (n < a.images) a.logits[(replica * a.images + n) * CLASSES + k] = total;
    }
}

/* The gradient by the features. */
KERNEL(unclassify, Classifier) {
    __shared__ float weight[ROOM];
    const int lane = threadIdx.x % LANES, replica = blockIdx.y;
    const int image = blockIdx.x * BESIDE + threadIdx.x / LANES;
    float d[CLASSES];
    UNROLL for (int k = 0; k < CLASSES; k++)
        d[k] = image < a.images ? a.dlogits[(replica * a.images + image) * CLASSES + k] : 0;
    for (int from = 0; from < PIXELS; from += TILE) {
        read_weights(a.weight + replica * CLASSES * FEATURES, from, weight);
        const int features = (from + TILE < PIXELS ? TILE : PIXELS - from) * CHANNELS;
        for (int f = lane; f < features && image < a.images; f += LANES) {
            float sum = 0;
            UNROLL for (int k = 0; k < CLASSES; k++) sum += d[k] * weight[k * TILE * PITCH + IN_TILE(f)];
            a.dx[PLACE(image, from * CHANNELS + f)] = sum;
        }
    }
}

/* The gradients by weights and bias. A block has LANES features of one replica. */
KERNEL(classifier_gradient, Classifier) {
    __shared__ float all[CLASSES * THREADS];
    const int f = blockIdx.x * LANES + threadIdx.x % LANES, replica = blockIdx.y;
    float sum[CLASSES], bias[CLASSES];
    UNROLL for (int k = 0; k < CLASSES; k++) sum[k] = bias[k] = 0;
    UNROLL_4 for (int n = threadIdx.x / LANES; n < a.images; n += BESIDE) {
        const float x = f < FEATURES ? a.x[PLACE(n, f)] : 0;
        const float *d = a.dlogits + (replica * a.images + n) * CLASSES;
        UNROLL for (int k = 0; k < CLASSES; k++) {
            sum[k] += d[k] * x;
            bias[k] += d[k];
        }
    }
    UNROLL for (int k = 0; k < CLASSES; k++) all[k * THREADS + threadIdx.x] = sum[k];
    __syncthreads();
    for (int i = threadIdx.x; i < LANES * CLASSES; i += THREADS) {
        const int to = blockIdx.x * LANES + i % LANES, k = i / LANES;
        float total = 0;
        for (int j = 0; j < BESIDE; j++) total += all[k * THREADS + j * LANES + i % LANES];
        const int at = to % CHANNELS * PIXELS + to / CHANNELS;
        if (to < FEATURES) a.dweight[(replica * CLASSES + k) * FEATURES + at] = total;
    }
    if (blockIdx.x) return;
    __syncthreads();
    UNROLL for (int k = 0; k < CLASSES; k++) all[k * THREADS + threadIdx.x] = bias[k];
    __syncthreads();
    if (threadIdx.x < CLASSES) {
        float total = 0;
        for (int j = 0; j < BESIDE; j++) total += all[threadIdx.x * THREADS + j * LANES];
        a.dbias[replica * CLASSES + threadIdx.x] = total;
    }
}

#else
/* ---- everything else: VECTOR neighbouring channels go together ---- */

typedef struct {
    const float *partial; /* (blocks, outputs, inputs, taps), the outputs of all replicas */
    float *gradient;
    int blocks, outputs, inputs, taps, side;
    int w_out, w_in, w_row, w_column;
} AddPartials;

/* The sum over blocks, where the weights lie. */
KERNEL(add_partials, AddPartials) {
    const int weights = a.outputs * a.inputs * a.taps, i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= weights) return;
    double sum = 0;
    for (int block = 0; block < a.blocks; block++) sum += a.partial[block * weights + i];
    const int tap = i % a.taps, in = i / a.taps % a.inputs, out = i / (a.taps * a.inputs);
    const int at = out * a.w_out + in * a.w_in + tap / a.side * a.w_row + tap % a.side * a.w_column;
    a.gradient[at] = (float)sum;
}

typedef struct {
    const unsigned char *images; /* (n, channels, pixels) */
    const long long *labels, *index; /* (n,), (batch, replicas) */
    const float *offset, *scale; /* (channels,) */
    float *x; /* (batch, pixels, replicas, channels) */
    long long *labels_taken; /* (replicas, batch) */
    int batch, replicas, channels, pixels;
} Take;

/* A batch's images as numbers, and their labels. */
KERNEL(take, Take) {
    const int i = blockIdx.x * THREADS + threadIdx.x, row = a.replicas * a.channels;
    if (i >= a.batch * a.pixels * row) return;
    const int channel = i % a.channels, replica = i % row / a.channels;
    const int pixel = i / row % a.pixels, image = i / row / a.pixels;
    const long long which = a.index[image * a.replicas + replica];
    const float value = (float)a.images[(which * a.channels + channel) * a.pixels + pixel];
    a.x[i] = (value - a.offset[channel]) * a.scale[channel];
    if (pixel == 0 && channel == 0) a.labels_taken[replica * a.batch + image] = a.labels[which];
}

/* Sums by channel: each thread takes every so many rows of VECTOR channels. */
typedef struct {
    const float *u, *y, *dy, *mean; /* of moments: u alone */
    double *partial; /* (blocks, 2, channels) */
    int rows, channels;
    Activation act1, act2;
} Sums;

#define LANES (a.channels / VECTOR)
#define BESIDE (THREADS / LANES)

/* Adds up what the threads of a block that have the same channels have. */
INLINE void write_sums(const Sums a, float *shared, const float *first, const float *second) {
    const int thread = threadIdx.x;
    UNROLL for (int k = 0; k < VECTOR; k++) {
        shared[k * THREADS + thread] = first[k];
        shared[(VECTOR + k) * THREADS + thread] = second[k];
    }
    __syncthreads();
    for (int i = thread; i < 2 * a.channels; i += THREADS) {
        const int which = i / a.channels, channel = i % a.channels;
        double sum = 0;
        for (int row = 0; row < BESIDE; row++)
            sum += shared[(which * VECTOR + channel % VECTOR) * THREADS + row * LANES + channel / VECTOR];
        a.partial[blockIdx.x * 2 * a.channels + i] = sum;
    }
}

/* The sums of v - pivot and of its square; the pivot is v of the first row, so that the squares'
   mean less the mean's square keeps its digits. */
KERNEL(moments, Sums) {
    ALIGNED __shared__ float shared[2 * VECTOR * THREADS];
    const int at = threadIdx.x % LANES * VECTOR;
    float sum[VECTOR], square[VECTOR], pivot[VECTOR];
    UNROLL for (int k = 0; k < VECTOR; k++) {
        sum[k] = square[k] = 0;
        pivot[k] = activate(a.u[at + k], a.act1);
    }
    if (threadIdx.x < BESIDE * LANES) {
        int row = blockIdx.x * BESIDE + threadIdx.x / LANES;
        UNROLL_4 for (; row < a.rows; row += gridDim.x * BESIDE) {
            const Vector u = *(const Vector *)(a.u + row * a.channels + at);
            UNROLL for (int k = 0; k < VECTOR; k++) {
                const float v = activate(u.at[k], a.act1) - pivot[k];
                sum[k] += v;
                square[k] += v * v;
            }
        }
    }
    write_sums(a, shared, sum, square);
}

/* The sums of dz and of dz * (v - mean), dz being the gradient before act2. */
KERNEL(gradient_sums, Sums) {
    ALIGNED __shared__ float shared[2 * VECTOR * THREADS];
    const int at = threadIdx.x % LANES * VECTOR;
    float sum[VECTOR], product[VECTOR], mean[VECTOR];
    UNROLL for (int k = 0; k < VECTOR; k++) {
        sum[k] = product[k] = 0;
        mean[k] = a.mean[at + k];
    }
    if (threadIdx.x < BESIDE * LANES) {
        int row = blockIdx.x * BESIDE + threadIdx.x / LANES;
        UNROLL_4 for (; row < a.rows; row += gridDim.x * BESIDE) {
            const int from = row * a.channels + at;
            const Vector u = *(const Vector *)(a.u + from), y = *(const Vector *)(a.y + from);
            const Vector dy = *(const Vector *)(a.dy + from);
            UNROLL for (int k = 0; k < VECTOR; k++) {
                const float dz = dy.at[k] * derivative(y.at[k], a.act2);
                sum[k] += dz;
                product[k] += dz * (activate(u.at[k], a.act1) - mean[k]);
            }
        }
    }
    write_sums(a, shared, sum, product);
}

typedef struct {
    const double *partial; /* (blocks, 2, channels) */
    const float *u; /* its first row is the pivot */
    const float *gamma, *beta;
    float *mean, *inverse, *scale, *shift; /* batch norm is scale * v + shift */
    float *running_mean, *running_variance;
    long long *batches; /* how many BN has seen; null: use the running statistics */
    int blocks, channels, count;
    float eps, momentum;
    Activation act1;
} Settle;

/* Both sums of this block's channel over all partial ones; in the first thread. */
INLINE void add_up(const double *partial, int blocks, int channels, double *shared, double *sums) {
    const int thread = threadIdx.x;
    for (int which = 0; which < 2; which++) {
        double sum = 0;
        for (int i = thread; i < blocks; i += THREADS)
            sum += partial[(i * 2 + which) * channels + blockIdx.x];
        shared[which * THREADS + thread] = sum;
    }
    for (int step = THREADS / 2; step; step /= 2) {
        __syncthreads();
        if (thread < step) {
            shared[thread] += shared[thread + step];
            shared[THREADS + thread] += shared[THREADS + thread + step];
        }
    }
    sums[0] = shared[0];
    sums[1] = shared[THREADS];
}

/* Mean and variance of a channel, the running ones, and BN as scale and shift. A block a channel. */
KERNEL(settle_moments, Settle) {
    __shared__ double shared[2 * THREADS];
    const int c = blockIdx.x;
    double sums[2], mean, variance;
    if (a.batches) {
        add_up(a.partial, a.blocks, a.channels, shared, sums);
        if (threadIdx.x) return;
        const double shifted = sums[0] / a.count;
        mean = activate(a.u[c], a.act1) + shifted;
        variance = sums[1] / a.count - shifted * shifted;
        variance = variance < 0 ? 0 : variance;
        const double unbiased = variance * a.count / (a.count - 1);
        a.running_mean[c] += a.momentum * ((float)mean - a.running_mean[c]);
        a.running_variance[c] += a.momentum * ((float)unbiased - a.running_variance[c]);
        if (c == 0) a.batches[0]++;
    } else {
        if (threadIdx.x) return;
        mean = a.running_mean[c];
        variance = a.running_variance[c];
    }
    const float inverse = (float)(1 / sqrt(variance + a.eps));
    a.mean[c] = (float)mean;
    a.inverse[c] = inverse;
    a.scale[c] = a.gamma[c] * inverse;
    a.shift[c] = (float)(a.beta[c] - mean * a.scale[c]);
}

typedef struct {
    const double *partial; /* (blocks, 2, channels) */
    const float *inverse, *scale;
    float *dgamma, *dbeta, *b, *k; /* dv = scale * dz + b + k * (v - mean) */
    int blocks, channels, count, by_batch;
} SettleGradients;

/* The gradients by gamma and beta, and what the gradient by v needs of a channel. A block a channel.
   by_batch: 0 where BN had its running statistics, which do not move with v. */
KERNEL(settle_gradients, SettleGradients) {
    __shared__ double shared[2 * THREADS];
    const int c = blockIdx.x;
    double sums[2];
    add_up(a.partial, a.blocks, a.channels, shared, sums);
    if (threadIdx.x) return;
    const double dgamma = sums[1] * a.inverse[c];
    a.dbeta[c] = (float)sums[0];
    a.dgamma[c] = (float)dgamma;
    a.b[c] = a.by_batch ? (float)(-a.scale[c] * sums[0] / a.count) : 0;
    a.k[c] = a.by_batch ? (float)(-a.scale[c] * a.inverse[c] * dgamma / a.count) : 0;
}

typedef struct {
    BYTES_OF(VECTOR) unsigned char at[VECTOR];
} Bytes;

/* A group of layers: u (images, height, width, channels), y the same or halved by pooling. */
typedef struct {
    const float *u, *scale, *shift; /* scale null: no batch norm */
    float *y, *largest; /* v where z is largest; may be null, for a derivative alone asks for it */
    unsigned char *where; /* which pixel of its window that is; likewise */
    int images, height, width, channels, pooled;
    Activation act1, act2;
} Forward;

KERNEL(forward, Forward) {
    const int rows = a.pooled ? a.height / 2 : a.height, columns = a.pooled ? a.width / 2 : a.width;
    const int lanes = a.channels / VECTOR, total = a.images * rows * columns * lanes;
    const int i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= total) return;
    const int channel = i % lanes * VECTOR, column = i / lanes % columns;
    const int row = i / lanes / columns % rows, image = i / lanes / columns / rows;
    const int size = a.pooled ? 2 : 1, to = i / lanes * a.channels + channel;
    const float *u = a.u + ((image * a.height + row * size) * a.width + column * size) * a.channels + channel;
    Vector best, value, scale, shift;
    Bytes which;
    if (a.scale) {
        scale = *(const Vector *)(a.scale + channel);
        shift = *(const Vector *)(a.shift + channel);
    }
    for (int pixel = 0; pixel < size * size; pixel++) {
        const Vector from = *(const Vector *)(u + (pixel / 2 * a.width + pixel % 2) * a.channels);
        UNROLL for (int k = 0; k < VECTOR; k++) {
            const float v = activate(from.at[k], a.act1);
            const float z = a.scale ? scale.at[k] * v + shift.at[k] : v;
            if (pixel == 0 || z > best.at[k] || z != z) {
                best.at[k] = z;
                value.at[k] = v;
                which.at[k] = (unsigned char)pixel;
            }
        }
    }
    UNROLL for (int k = 0; k < VECTOR; k++) best.at[k] = activate(best.at[k], a.act2);
    *(Vector *)(a.y + to) = best;
    if (a.where) *(Bytes *)(a.where + to) = which;
    if (a.largest) *(Vector *)(a.largest + to) = value;
}

typedef struct {
    const float *u, *y, *dy, *mean, *scale, *b, *k; /* scale null: no batch norm; u then, too */
    const unsigned char *where; /* null: no pooling */
    float *du;
    int images, height, width, channels;
    Activation act1, act2;
} Backward;

KERNEL(backward, Backward) {
    const int lanes = a.channels / VECTOR, total = a.images * a.height * a.width * lanes;
    const int i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= total) return;
    const int channel = i % lanes * VECTOR, column = i / lanes % a.width;
    const int row = i / lanes / a.width % a.height, image = i / lanes / a.width / a.height;
    const int size = a.where ? 2 : 1, at = i / lanes * a.channels + channel;
    const int rows = a.height / size, columns = a.width / size;
    const int in_window = row / size < rows && column / size < columns;
    const int from = ((image * rows + row / size) * columns + column / size) * a.channels + channel;
    const int pixel = row % size * 2 + column % size;
    Vector y = {{0}}, dy = {{0}}, du, u = {{0}}, scale, b, factor, mean;
    Bytes where = {{0}};
    if (in_window) {
        y = *(const Vector *)(a.y + from);
        dy = *(const Vector *)(a.dy + from);
        if (a.where) where = *(const Bytes *)(a.where + from);
    }
    if (a.u) u = *(const Vector *)(a.u + at);
    if (a.scale) {
        scale = *(const Vector *)(a.scale + channel);
        b = *(const Vector *)(a.b + channel);
        factor = *(const Vector *)(a.k + channel);
        mean = *(const Vector *)(a.mean + channel);
    }
    UNROLL for (int k = 0; k < VECTOR; k++) {
        const int here = !a.where || where.at[k] == pixel;
        float dv = here ? dy.at[k] * derivative(y.at[k], a.act2) : 0;
        const float v = activate(u.at[k], a.act1);
        if (a.scale) dv = scale.at[k] * dv + b.at[k] + factor.at[k] * (v - mean.at[k]);
        du.at[k] = dv * derivative(v, a.act1);
    }
    *(Vector *)(a.du + at) = du;
}
#endif
