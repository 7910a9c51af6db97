/* Enough of CUDA to run bnorder/fused.cu on a processor: one block after another, its threads as
   fibers, which change places where they wait for each other. For tests: it is slow. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#define INLINE static inline
#define ALIGNED __attribute__((aligned(16)))
#define VECTOR_OF(n) __attribute__((aligned((n) % 4 ? 4 : 16)))
#define BYTES_OF(n) __attribute__((aligned(n)))
#define UNROLL
#define UNROLL_4
#define __shared__ static

typedef struct {
    int x, y;
} Place;

static Place gridDim, blockIdx, threads[THREADS];
static ucontext_t scheduler, fibers[THREADS];
static int current, finished[THREADS];
static const void *given;
static char *stacks;
enum { STACK = 65536 };

#define threadIdx (threads[current])

static void __syncthreads(void) { swapcontext(&fibers[current], &scheduler); }

static void run_block(void (*fiber)(void)) {
    for (int i = 0; i < THREADS; i++) {
        getcontext(&fibers[i]);
        fibers[i].uc_stack.ss_sp = stacks + (size_t)i * STACK;
        fibers[i].uc_stack.ss_size = STACK;
        fibers[i].uc_link = &scheduler;
        threads[i].x = i;
        finished[i] = 0;
        makecontext(&fibers[i], fiber, 0);
    }
    for (int left = THREADS; left;)
        for (current = 0; current < THREADS; current++)
            if (!finished[current]) {
                swapcontext(&scheduler, &fibers[current]);
                left -= finished[current];
            }
}

#define KERNEL(name, Arguments)                                            \
    static void name##_thread(const Arguments a);                          \
    static void name##_fiber(void) {                                       \
        name##_thread(*(const Arguments *)given);                          \
        finished[current] = 1;                                             \
    }                                                                      \
    void name(const void *arguments, int blocks_x, int blocks_y) {         \
        if (!stacks) stacks = malloc((size_t)THREADS * STACK);             \
        given = arguments;                                                 \
        gridDim.x = blocks_x;                                              \
        gridDim.y = blocks_y;                                              \
        for (blockIdx.y = 0; blockIdx.y < blocks_y; blockIdx.y++)          \
            for (blockIdx.x = 0; blockIdx.x < blocks_x; blockIdx.x++)      \
                run_block(name##_fiber);                                   \
    }                                                                      \
    static void name##_thread(const Arguments a)
