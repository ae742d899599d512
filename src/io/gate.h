/*
 * A gate before a listening TCP socket: a client's SYN is held in this machine's packet
 * filter until this program has decided, so that a connection is set up only after
 * somebody else accepted it, and otherwise refused or not answered at all. The
 * privileged helper does it (core/privilege.h). A gate decides nothing.
 *
 * It is a wish and no proof: where the helper ended or rules were flushed, SYNs pass
 * unasked. Whoever accepts a connection from the listening socket must look whether its
 * client was let in, and else reset it.
 *
 * Each gate has a connection of its own to the helper, so gates of one process may be
 * used by several threads, each on its own loop; one gate by one thread only.
 */
#ifndef POSTERN_IO_GATE_H
#define POSTERN_IO_GATE_H

#include <stdint.h>

#include "core/err.h"
#include "core/privilege.h"
#include "io/loop.h"

struct gate;

/*
 * `from` asks for a connection: answer with gate_verdict, from here or later. Without
 * an answer it is dropped after PRIVILEGE_HELD_MS, and `id` means nothing then. A
 * client repeats its SYN while it waits; that is not reported again, nor for
 * PRIVILEGE_PASSED_MS after it was accepted. May call gate_close.
 */
typedef void (*gate_syn_cb)(void *ctx, uint64_t id, const struct addr *from);
/* The helper ended: from now on every SYN passes. Only gate_close may follow; another
 * gate may be opened when helper_can says so again. */
typedef void (*gate_lost_cb)(void *ctx);

/*
 * Holds what comes by TCP to `local` (core/privilege.h) from now on. Open it before the
 * listening socket. The helper must have been started (helper_open), by whatever
 * thread. Takes some tens of milliseconds where the kernel lacks nftables' queue. On
 * failure `fault` (may be NULL) says why: POSTERN_ERR_PERM   there is no helper or it
 * may not: the caller can accept first POSTERN_ERR_INUSE  this port has a gate of this
 * process there POSTERN_ERR_LIMIT  PRIVILEGE_GATES_MAX POSTERN_ERR_IO     the packet
 * filter does not do it
 */
MUST_CHECK int gate_open(struct gate **out, struct loop *loop, const struct addr *local,
                         gate_syn_cb on_syn, gate_lost_cb on_lost, void *ctx,
                         struct fault *fault);
void gate_verdict(struct gate *g, uint64_t id, enum gate_verdict verdict);
/* What is held is refused. NULL is fine. No callback comes after it. */
void gate_close(struct gate *g);

#endif
