/* The shared scratch memory and clock of one loop. */
#include "path/net.h"

#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <sodium.h>

#include "io/clock.h"
#include "io/helper.h"
#include "io/loop.h"
#include "io/udp.h"

enum { DESCRIPTORS_WANTED = 8192 };

/* Prediction opens hundreds of sockets at once; the soft limit is often 1,024. */
static void raise_descriptors(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) != 0 || r.rlim_cur >= DESCRIPTORS_WANTED)
        return;
    r.rlim_cur = r.rlim_max < DESCRIPTORS_WANTED ? r.rlim_max : DESCRIPTORS_WANTED;
    (void)setrlimit(RLIMIT_NOFILE, &r);
}

int net_init(struct net *n, struct loop *loop, const struct keypair *own,
             struct budget *budget)
{
    *n = (struct net){.loop = loop, .own = *own, .budget = budget};
    if (budget == NULL) {
        n->budget = net_budget_new();
        n->own_budget = true;
    }
    n->scratch = malloc(UDP_SCRATCH_BYTES);
    raise_descriptors();
    helper_open(loop);
    if (n->scratch == NULL || n->budget == NULL || sodium_init() < 0)
        return POSTERN_ERR_NOMEM;
    return 0;
}

void net_fini(struct net *n)
{
    if (n->loop != NULL)
        helper_close();
    n->loop = NULL;
    free(n->scratch);
    n->scratch = NULL;
    if (n->own_budget)
        free(n->budget);
    n->budget = NULL;
    sodium_memzero(&n->own, sizeof(n->own));
}

struct budget *net_budget_new(void)
{
    uint8_t secret[BUDGET_SECRET_LEN];
    struct budget *b = sodium_init() < 0 ? NULL : malloc(sizeof(*b));
    if (b == NULL)
        return NULL;
    randombytes_buf(secret, sizeof(secret));
    budget_init(b, secret);
    return b;
}

/* The lowest free number tells how many below it are taken. */
bool net_has_descriptors(const struct net *n, unsigned percent, long apart)
{
    (void)n;
    int fd = eventfd(0, EFD_CLOEXEC);
    if (fd < 0)
        return false;
    close(fd);
    return fd < NET_DESCRIPTORS_OWN + (long)net_descriptors_share(percent) + apart;
}

size_t net_descriptors_share(unsigned percent)
{
    struct rlimit r = {.rlim_cur = DESCRIPTORS_WANTED};
    (void)getrlimit(RLIMIT_NOFILE, &r);
    size_t max = r.rlim_cur < INT32_MAX ? (size_t)r.rlim_cur : INT32_MAX;
    return max > NET_DESCRIPTORS_OWN ? (max - NET_DESCRIPTORS_OWN) * percent / 100 : 0;
}

uint64_t net_now_us(void)
{
    return clock_us();
}
