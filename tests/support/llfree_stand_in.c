/* What shmstress bench calls of LLFree, by the same prototypes, over a bitmap.
 *
 * It is no allocator to measure: it ends the process (abort) at the first call whose arguments are
 * not what they have to be, so that a test sees whether the loops call it rightly.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

typedef struct { uint64_t value; } frame_t;
typedef struct { bool present; frame_t value; } frame_optional_t;
typedef struct { bool present; size_t value; } index_optional_t;
typedef struct { uint8_t order; uint8_t class; index_optional_t local; } request_t;
typedef struct { frame_t frame; uint8_t class; uint8_t error; } result_t;
typedef struct { uint32_t type; uint8_t priority; } policy_t;
typedef policy_t (*policy_fn)(uint8_t, uint8_t, size_t);
typedef struct { uint8_t class; size_t count; } conf_t;
typedef struct { conf_t classes[8]; size_t num_classes; uint8_t default_class; policy_fn policy; } classing_t;
typedef struct { size_t llfree, local, trees, lower; } sizes_t;
typedef struct { uint8_t *local, *trees, *lower; } meta_t;
typedef struct { size_t frames, cores; uint8_t *taken; } state_t; /* taken: order + 1 of a block */

static void must(bool condition) { if (!condition) abort(); }

sizes_t llfree_metadata_size(const classing_t *classing, size_t frames) {
    must(classing->num_classes == 2);
    return (sizes_t){sizeof(state_t), 64, 64, frames};
}

result_t llfree_init(state_t *self, size_t frames, uint8_t init, meta_t meta, const classing_t *c) {
    must(init == 0 && c->classes[0].class == 0 && c->classes[1].class == 1);
    must(c->default_class == 1 && c->classes[0].count == c->classes[1].count);
    policy_t same = c->policy(0, 0, 4096), above = c->policy(1, 0, 1), below = c->policy(0, 1, 1);
    must(same.type == 0 && same.priority == 1 && above.type == 1 && below.type == 2);
    must(c->policy(1, 1, 64).priority == 255 && c->policy(1, 1, 63).priority == 0);
    *self = (state_t){frames, c->classes[0].count, meta.lower};
    return (result_t){{0}, 0, 0};
}

static void check(const state_t *self, request_t request) {
    must(request.order < 10 && request.class == (request.order >= 9));
    must(request.local.present && request.local.value < self->cores);
}

result_t llfree_get(state_t *self, frame_optional_t frame, request_t request) {
    check(self, request);
    must(!frame.present);
    /* each core has a part of the frames, so that this needs no lock */
    size_t part = self->frames / self->cores, first = part * request.local.value;
    size_t step = (size_t)1 << request.order;
    for (size_t at = (first + step - 1) & -step; at + step <= first + part; at += step) {
        size_t k = 0;
        while (k < step && self->taken[at + k] == 0)
            k++;
        if (k == step) {
            for (k = 0; k < step; k++)
                self->taken[at + k] = request.order + 1;
            return (result_t){{at}, request.class, 0};
        }
    }
    return (result_t){{0}, 0, 1};
}

result_t llfree_put(state_t *self, frame_t frame, request_t request) {
    check(self, request);
    size_t step = (size_t)1 << request.order;
    must(frame.value % step == 0 && frame.value + step <= self->frames);
    for (size_t k = 0; k < step; k++) {
        must(self->taken[frame.value + k] == request.order + 1);
        self->taken[frame.value + k] = 0;
    }
    return (result_t){{0}, 0, 0};
}
