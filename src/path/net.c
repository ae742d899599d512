/* The shared scratch memory and clock of one loop. */
#include "path/net.h"

#include <stdlib.h>

#include <sodium.h>

#include "io/helper.h"
#include "io/udp.h"

int net_init(struct net *n, uv_loop_t *loop, const struct keypair *own)
{
    *n = (struct net){.loop = loop, .own = *own};
    n->scratch = malloc(UDP_SCRATCH_BYTES);
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
