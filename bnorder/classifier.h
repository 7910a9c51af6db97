/* The classifier behind a network's last layer, its loss and their derivatives, on one core.

   Features (images, pixels, replicas * channels) are read as they lie. A replica's weights are
   (pixels, classes, channels), in `spread` below, so that a vector is of neighbouring channels.

   Logits are weights * features + bias; a loss is log(sum(exp(logits))) - the label's logit. */

#include <math.h>

#include "vectors.h"

typedef struct {
    int64_t images, pixels, channels, replicas, classes; /* channels: of each replica */
} Classifier;

enum {
    CLASSES = 5, /* whose sums are in registers at once, */
    IMAGES = 2,  /* for so many images */
    SHARING = 4, /* images for which a weight is read once */
    ADDING = 16  /* images that one sum of the gradient by weights is over */
};

/* Weights (replicas, classes, channels * pixels) as (replicas, pixels, classes, channels), and, if
   `back`, their gradient the other way. */
static void reorder(const Classifier *shape, int back, float *weight, float *spread) {
    const int64_t pixels = shape->pixels, channels = shape->channels;
    for (int64_t replica = 0; replica < shape->replicas; replica++)
        for (int64_t class = 0; class < shape->classes; class++)
            for (int64_t c = 0; c < channels; c++, weight += pixels)
                for (int64_t pixel = 0; pixel < pixels; pixel++) {
                    float *there = spread + ((replica * pixels + pixel) * shape->classes + class) *
                                                channels + c;
                    if (back) weight[pixel] = *there;
                    else *there = weight[pixel];
                }
}

/* Logits of some images and classes. features: of the first image, the next is `apart` numbers off. */
INLINE void classify_some(const Classifier *shape, int images, int classes, const float *features,
                     int64_t apart, const float *weights, const float *bias, float *logits) {
    const int64_t channels = shape->channels, step = shape->replicas * channels;
    Vector sums[IMAGES][CLASSES] = {{ZERO}};
    for (int64_t pixel = 0; pixel < shape->pixels; pixel++)
        for (int64_t c = 0; c < channels; c += LANES) {
            const float *weight = weights + pixel * shape->classes * channels + c;
            UNROLL(2)
            for (int image = 0; image < images; image++) {
                const Vector x = LOAD(features + image * apart + pixel * step + c);
                UNROLL(5)
                for (int class = 0; class < classes; class++)
                    sums[image][class] += x * LOAD(weight + class * channels);
            }
        }
    for (int image = 0; image < images; image++)
        for (int class = 0; class < classes; class++)
            logits[image * shape->classes + class] = sum_of(sums[image][class]) + bias[class];
}

/* logits (replicas, images, classes) of features; spread: room for the weights in their order. */
void classify(const Classifier *shape, const float *features, float *weight, const float *bias,
               float *spread, float *logits) {
    const int64_t step = shape->replicas * shape->channels, apart = shape->pixels * step;
    const int64_t classes = shape->classes, images = shape->images;
    reorder(shape, 0, weight, spread);
    for (int64_t replica = 0; replica < shape->replicas; replica++)
        for (int64_t image = 0; image < images; image += IMAGES)
            for (int64_t class = 0; class < classes; class += CLASSES) {
                const float *x = features + image * apart + replica * shape->channels;
                const float *weights = spread + (replica * shape->pixels * classes + class) *
                                                    shape->channels;
                const float *start = bias + replica * classes + class;
                float *to = logits + (replica * images + image) * classes + class;
                const int64_t many = at_most(classes - class, CLASSES);
                if (image + IMAGES <= images && many == CLASSES) {
                    classify_some(shape, IMAGES, CLASSES, x, apart, weights, start, to);
                    continue;
                }
                for (int64_t i = 0; i < at_most(images - image, IMAGES); i++)
                    for (int64_t k = 0; k < many; k++)
                        classify_some(shape, 1, 1, x + i * apart, apart,
                                      weights + k * shape->channels, start + k,
                                      to + i * classes + k);
            }
}

/* Cross-entropy of one image and its gradient by the logits. */
INLINE double cross_entropy_of(int64_t classes, int64_t label, int64_t best, const float *logits,
                               float share, float *gradient) {
    double sum = 0;
    for (int64_t class = 0; class < classes; class++) {
        gradient[class] = expf(logits[class] - logits[best]);
        sum += gradient[class];
    }
    for (int64_t class = 0; class < classes; class++) gradient[class] *= share / (float)sum;
    gradient[label] -= share;
    return logits[best] - logits[label] + log(sum);
}

/* Each replica's mean loss, its gradient by the logits (replicas, images, classes), and how many
   labels (replicas, images) have the greatest logit. */
void cross_entropy(int64_t replicas, int64_t images, int64_t classes, const int64_t *labels,
                   const float *logits, float *gradient, float *losses, int64_t *correct) {
    const float share = 1 / (float)images;
    for (int64_t replica = 0; replica < replicas; replica++) {
        double total = 0;
        correct[replica] = 0;
        for (int64_t image = 0; image < images; image++, labels++) {
            int64_t best = 0;
            for (int64_t class = 1; class < classes; class++)
                if (logits[class] > logits[best]) best = class;
            total += cross_entropy_of(classes, *labels, best, logits, share, gradient);
            correct[replica] += best == *labels;
            logits += classes, gradient += classes;
        }
        losses[replica] = (float)(total / (double)images);
    }
}

/* The gradient by some images' features. */
INLINE void images_back(const Classifier *shape, int images, const float *dlogits,
                          const float *weights, float *to, int64_t apart) {
    const int64_t channels = shape->channels, step = shape->replicas * channels;
    for (int64_t pixel = 0; pixel < shape->pixels; pixel++)
        for (int64_t c = 0; c < channels; c += LANES) {
            const float *weight = weights + pixel * shape->classes * channels + c;
            Vector sums[SHARING] = {ZERO};
            for (int64_t class = 0; class < shape->classes; class++) {
                const Vector w = LOAD(weight + class * channels);
                UNROLL(4)
                for (int image = 0; image < images; image++)
                    sums[image] += dlogits[image * shape->classes + class] * w;
            }
            UNROLL(4)
            for (int image = 0; image < images; image++)
                STORE(to + image * apart + pixel * step + c, sums[image]);
        }
}

/* Adds some images to the gradient by some classes' weights. */
INLINE void weigh_classes(const Classifier *shape, int64_t images, int classes,
                          const float *features, int64_t apart, const float *dlogits, float *to) {
    const int64_t channels = shape->channels, step = shape->replicas * channels;
    for (int64_t pixel = 0; pixel < shape->pixels; pixel++)
        for (int64_t c = 0; c < channels; c += LANES) {
            Vector sums[CLASSES] = {ZERO};
            for (int64_t image = 0; image < images; image++) {
                const Vector x = LOAD(features + image * apart + pixel * step + c);
                UNROLL(5)
                for (int class = 0; class < classes; class++)
                    sums[class] += dlogits[image * shape->classes + class] * x;
            }
            UNROLL(5)
            for (int class = 0; class < classes; class++)
                ADD(to + (pixel * shape->classes + class) * channels + c, sums[class]);
        }
}

/* The gradients by features, weight and bias of that by logits; spread: as `classify` left it,
   dspread: room for the gradient in that order. */
void classify_back(const Classifier *shape, const float *dlogits, const float *features,
                         const float *spread, float *dspread, float *dfeatures, float *dweight,
                         float *dbias) {
    const int64_t step = shape->replicas * shape->channels, apart = shape->pixels * step;
    const int64_t classes = shape->classes, size = shape->pixels * classes * shape->channels;
    memset(dspread, 0, sizeof(float) * (size_t)(shape->replicas * size));
    memset(dbias, 0, sizeof(float) * (size_t)(shape->replicas * classes));
    for (int64_t replica = 0; replica < shape->replicas; replica++)
        for (int64_t first = 0; first < shape->images; first += ADDING) {
            const int64_t images = at_most(shape->images - first, ADDING);
            const float *gradient = dlogits + (replica * shape->images + first) * classes;
            const int64_t at = first * apart + replica * shape->channels;
            const float *x = features + at;
            int64_t done = 0;
            for (; done + SHARING <= images; done += SHARING)
                images_back(shape, SHARING, gradient + done * classes, spread + replica * size,
                              dfeatures + at + done * apart, apart);
            for (; done < images; done++)
                images_back(shape, 1, gradient + done * classes, spread + replica * size,
                              dfeatures + at + done * apart, apart);
            for (int64_t class = 0; class < classes;) {
                float *to = dspread + replica * size + class * shape->channels;
                const int many = classes - class >= CLASSES ? CLASSES : 1;
                if (many == CLASSES)
                    weigh_classes(shape, images, CLASSES, x, apart, gradient + class, to);
                else
                    weigh_classes(shape, images, 1, x, apart, gradient + class, to);
                class += many;
            }
            for (int64_t i = 0; i < images * classes; i++)
                dbias[replica * classes + i % classes] += gradient[i];
        }
    reorder(shape, 1, dweight, dspread);
}
