/* The shared scratch memory of one loop. */
#include "path/net.h"

#include <stdlib.h>

#include <sodium.h>

#include "io/helper.h"
#include "io/lack.h"
#include "io/loop.h"
#include "io/udp.h"
#include "path/net_sessions.h"

enum {
    /* Prediction opens hundreds of sockets at once; the soft limit is often 1,024. */
    DESCRIPTORS_WANTED = 8192,
    DESCRIPTORS_LEAST =
        8, /* with fewer free there is none for others, for all shares */
};

void net_allow_descriptors(void)
{
    descriptors_allow(DESCRIPTORS_WANTED);
}

int net_init(struct net *n, struct loop *loop, const struct keypair *own,
             struct net_budget *budget)
{
    *n = (struct net){.loop = loop, .own = *own, .budget = budget};
    if (budget == NULL) {
        n->budget = net_budget_new();
        n->own_budget = true;
    }
    if (budget != NULL)
        loop_on_session(loop, net_sessions_on_other, budget);
    n->scratch = malloc(UDP_SCRATCH_BYTES);
    net_allow_descriptors();
    helper_open(loop);
    if (n->scratch == NULL || n->budget == NULL || sodium_init() < 0)
        return POSTERN_ERR_NOMEM;
    randombytes_buf(n->process, sizeof(n->process));
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
        net_budget_free(n->budget);
    n->budget = NULL;
    sodium_memzero(&n->own, sizeof(n->own));
}

/* The lowest free number tells how many below it are taken. */
bool net_has_descriptors(const struct net *n, unsigned percent, long apart)
{
    (void)n;
    long taken = descriptors_taken();
    return taken >= 0 && taken + DESCRIPTORS_LEAST <= (long)descriptors_max() &&
           taken < NET_DESCRIPTORS_OWN + (long)net_descriptors_share(percent) + apart;
}

size_t net_descriptors_share(unsigned percent)
{
    size_t max = descriptors_max();
    return max > NET_DESCRIPTORS_OWN ? (max - NET_DESCRIPTORS_OWN) * percent / 100 : 0;
}
