/*
 * The lookup, and what it found. DNS that answers nothing of ipv4only.arpa leaves what
 * was known before; DNS that says it has none, or only IPv4, takes it away.
 */
#include "io/nat64_way.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/nat64.h"
#include "io/log.h"
#include "io/resolve.h"
#include "io/sockaddr.h"

struct nat64_look {
    struct resolve *resolve;
    loop_cb cb;
    void *ctx;
};

/* The process's own: the machine has one network, whatever loops there are. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct nat64 known;

/* As the routes say; sends nothing. */
static bool has_way(const struct addr *to)
{
    struct sockaddr_storage ss;
    socklen_t len = sockaddr_from_addr(&ss, to);
    int fd = socket(ss.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool has = fd >= 0 && connect(fd, (struct sockaddr *)&ss, len) == 0;
    if (fd >= 0)
        (void)close(fd);
    return has;
}

bool nat64_way_is_wanted(void)
{
    struct addr v4 = {.family = ADDR_V4, .port = 9, .ip = {192, 0, 2, 1}},
                v6 = {.family = ADDR_V6, .port = 9, .ip = {0x26, 0x20}};
    return !has_way(&v4) && has_way(&v6);
}

static struct nat64 current(void)
{
    (void)pthread_mutex_lock(&lock);
    struct nat64 n = known;
    (void)pthread_mutex_unlock(&lock);
    return n;
}

bool nat64_way_put_in(const struct addr *v4, struct addr *v6)
{
    struct nat64 n = current();
    return nat64_put_in(&n, v4, v6);
}

bool nat64_way_try(unsigned nth, const struct addr *v4, struct addr *v6)
{
    struct nat64 n = current();
    return nat64_try(&n, nth, v4, v6);
}

bool nat64_way_is_doubtful(void)
{
    struct nat64 n = current();
    return nat64_is_doubtful(&n);
}

void nat64_way_prove(const struct addr *v6, const struct addr *seen)
{
    (void)pthread_mutex_lock(&lock);
    nat64_prove(&known, v6, seen);
    (void)pthread_mutex_unlock(&lock);
}

bool nat64_way_take_out(const struct addr *v6, struct addr *v4)
{
    struct nat64 n = current();
    return nat64_take_out(&n, v6, v4);
}

static void on_found(void *ctx, int err, const struct addr *addrs, size_t count)
{
    struct nat64_look *l = ctx;
    loop_cb cb = l->cb;
    void *cb_ctx = l->ctx;
    struct nat64 n;
    nat64_learn(&n, addrs, count);
    if (err == 0 || err == POSTERN_ERR_NOTFOUND) {
        (void)pthread_mutex_lock(&lock);
        nat64_keep(&n, &known);
        known = n;
        (void)pthread_mutex_unlock(&lock);
    }
    log_debug("this network has IPv6 only; %s",
              n.count > 0 ? "it translates to IPv4 (NAT64)"
                          : "no translation to IPv4 was found");
    free(l);
    cb(cb_ctx);
}

int nat64_look_start(struct nat64_look **out, struct loop *loop, loop_cb cb, void *ctx)
{
    struct nat64_look *l = calloc(1, sizeof(*l));
    if (l == NULL)
        return POSTERN_ERR_NOMEM;
    l->cb = cb;
    l->ctx = ctx;
    int rc = resolve_start_apart(&l->resolve, loop, NAT64_NAME, 0, on_found, l);
    if (rc != 0)
        free(l);
    else
        *out = l;
    return rc;
}

void nat64_look_cancel(struct nat64_look *l)
{
    if (l == NULL)
        return;
    resolve_cancel(l->resolve);
    free(l);
}
