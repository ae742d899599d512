/* splice(2), or read and write; see relay_flow.h. Knows no ticket and no device. */
#include "broker/relay_flow.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/err.h"
#include "io/sock.h"

enum { ROUNDS_PER_PUMP = 8 };

static void pipe_close(struct relay_pipe *p)
{
    close(p->read_fd);
    close(p->write_fd);
}

void relay_pool_fini(struct relay_pool *p)
{
    while (p->spare_count > 0)
        pipe_close(&p->spare[--p->spare_count]);
}

/* A pipe smaller than asked for would be slower than memory: then none. */
static bool pipe_get(struct relay_pool *p, struct relay_pipe *out)
{
    int fds[2];
    if (p->spare_count > 0) {
        *out = p->spare[--p->spare_count];
        return true;
    }
    if (p->no_pipes || pipe2(fds, O_NONBLOCK | O_CLOEXEC) != 0)
        return false;
    *out = (struct relay_pipe){.read_fd = fds[0], .write_fd = fds[1]};
    if (fcntl(fds[1], F_SETPIPE_SZ, RELAY_PIPE_BYTES) < RELAY_PIPE_BYTES) {
        pipe_close(out);
        p->no_pipes = true;
        return false;
    }
    return true;
}

static void pipe_put(struct relay_pool *p, struct relay_pipe *pipe, bool empty)
{
    if (empty && p->spare_count < RELAY_SPARE_PIPES) {
        p->spare[p->spare_count++] = *pipe;
        return;
    }
    pipe_close(pipe);
    p->no_pipes = false; /* a place in the quota is free again */
}

static int carrier_get(struct relay_flow *f, struct relay_pool *p)
{
    if (f->has_pipe || f->buffer != NULL)
        return 0;
    f->has_pipe = pipe_get(p, &f->pipe);
    if (!f->has_pipe)
        f->buffer = malloc(RELAY_BUFFER_BYTES);
    return f->has_pipe || f->buffer != NULL ? 0 : POSTERN_ERR_NOMEM;
}

void relay_flow_fini(struct relay_flow *f, struct relay_pool *p)
{
    if (f->has_pipe)
        pipe_put(p, &f->pipe, f->held == 0);
    f->has_pipe = false;
    free(f->buffer);
    f->buffer = NULL;
    f->held = 0;
}

/* As sock_read, without a way through this process's memory. */
static ssize_t spliced(int from_fd, int to_fd, size_t len)
{
    ssize_t n;
    do
        n = splice(from_fd, NULL, to_fd, NULL, len, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    while (n < 0 && errno == EINTR);
    return n < 0 && errno == EAGAIN ? POSTERN_ERR_AGAIN
           : n < 0                  ? POSTERN_ERR_CLOSED
                                    : n;
}

/* Fills the empty carrier. Returns bytes, 0 for nothing now, -1 for a failure. */
static ssize_t flow_read(struct relay_flow *f)
{
    ssize_t n = f->has_pipe ? spliced(f->from_fd, f->pipe.write_fd, RELAY_PIPE_BYTES)
                            : sock_read(f->from_fd, f->buffer, RELAY_BUFFER_BYTES);
    if (n < 0 && n != POSTERN_ERR_AGAIN)
        return -1;
    f->readable = n > 0;
    f->eof = n == 0;
    f->from = 0;
    f->held = n > 0 ? (size_t)n : 0;
    return n > 0 ? n : 0;
}

static ssize_t flow_write(struct relay_flow *f)
{
    ssize_t n = f->has_pipe ? spliced(f->pipe.read_fd, f->to_fd, f->held)
                            : sock_write(f->to_fd, f->buffer + f->from, f->held);
    if (n == POSTERN_ERR_AGAIN) {
        f->writable = false;
        return 0;
    }
    if (n <= 0)
        return -1;
    f->held -= (size_t)n;
    f->from += (size_t)n;
    return n;
}

enum relay_flow_result relay_flow_pump(struct relay_flow *f, struct relay_pool *p,
                                       uint64_t *moved)
{
    int rounds = 0;
    while (!f->done) {
        if (f->held == 0 && f->readable && !f->eof) {
            if (rounds++ == ROUNDS_PER_PUMP)
                return RELAY_FLOW_MORE;
            if (carrier_get(f, p) != 0 || flow_read(f) < 0)
                return RELAY_FLOW_FAILED;
        }
        if (f->held > 0 && f->writable) {
            ssize_t n = flow_write(f);
            if (n < 0)
                return RELAY_FLOW_FAILED;
            *moved += (uint64_t)n;
            *(f->has_pipe ? &p->spliced : &p->copied) += (uint64_t)n;
        }
        if (f->held == 0 && f->eof) {
            f->done = true; /* ENOTCONN: the other side is gone, its own event tells */
            sock_end_writing(f->to_fd);
        }
        if (f->held > 0 ? !f->writable : !f->readable)
            break;
    }
    if (f->held == 0)
        relay_flow_fini(f, p);
    return RELAY_FLOW_WAIT;
}
