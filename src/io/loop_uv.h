/* libuv's loop behind io/loop.h, for the few files of io/ that use more of libuv. */
#ifndef POSTERN_IO_LOOP_UV_H
#define POSTERN_IO_LOOP_UV_H

#include <uv.h>

#include "io/loop.h"

/* Borrowed. */
uv_loop_t *loop_uv(struct loop *l);
/* Before each work: false where its pool of threads, which would end the program then,
 * has not begun and has no room. */
bool loop_begin_pool(struct loop *l);

#endif
