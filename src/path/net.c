/* The shared scratch memory and clock of one loop. */
#include "path/net.h"

#include <stdlib.h>
#include <sys/resource.h>

#include <sodium.h>

#include "io/helper.h"
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

int net_init(struct net *n, uv_loop_t *loop, const struct keypair *own)
{
    *n = (struct net){.loop = loop, .own = *own};
    n->scratch = malloc(UDP_SCRATCH_BYTES);
    raise_descriptors();
    helper_open(loop);
    if (n->scratch == NULL || sodium_init() < 0)
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
    sodium_memzero(&n->own, sizeof(n->own));
}

uint64_t net_now_us(void)
{
    return uv_hrtime() / 1000;
}
