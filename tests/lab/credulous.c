/*
 * A hostile broker: the real one, but that it vouches for a victim's address in every
 * message that it delivers. Linked with --wrap=broker_vouch and
 * --wrap=proto_encode_control.
 *
 *   credulous LISTEN PUBLIC STATE VICTIM
 *
 * SPREAD=1 in the environment: VICTIM is a /16, of which it vouches for others all the
 * time, and of which three are named as STUN servers.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/broker.h"
#include "broker/vouch.h"
#include "core/proto.h"
#include "spread.h"

static struct addr victim; /* what it cannot be told otherwise */
static bool spread;

void __wrap_broker_vouch(const uint8_t *secret, const struct addr *seen, Vouch *list,
                         pb_size_t *count, pb_size_t max);

void __wrap_broker_vouch(const uint8_t *secret, const struct addr *seen, Vouch *list,
                         pb_size_t *count, pb_size_t max)
{
    (void)secret, (void)seen;
    *count = spread && max > SPREAD_AT_ONCE ? SPREAD_AT_ONCE : spread ? max : 1;
    for (pb_size_t i = 0; i < *count; i++) {
        struct addr a = spread ? spread_vouched(&victim, i) : victim;
        list[i] = (Vouch){.port = 1, .ip.size = (pb_size_t)addr_ip_len(&a)};
        memcpy(list[i].ip.bytes, a.ip, list[i].ip.size);
    }
}

int __real_proto_encode_control(uint8_t *out, size_t cap, const Control *m);
int __wrap_proto_encode_control(uint8_t *out, size_t cap, const Control *m);

int __wrap_proto_encode_control(uint8_t *out, size_t cap, const Control *m)
{
    if (!spread || m->which_body != Control_welcome_tag)
        return __real_proto_encode_control(out, cap, m);
    Control *more = malloc(sizeof(*more));
    if (more == NULL)
        return -1;
    *more = *m;
    Welcome *w = &more->body.welcome;
    const pb_size_t max = sizeof(w->stun) / sizeof(w->stun[0]);
    while (w->stun_count > 0 && w->stun_count < max) { /* the first is its own */
        struct addr a = spread_vouched(&victim, w->stun_count);
        StunServer *s = &w->stun[w->stun_count++];
        *s = (StunServer){.port = 3478, .ip.size = (pb_size_t)addr_ip_len(&a)};
        memcpy(s->ip.bytes, a.ip, s->ip.size);
    }
    int n = __real_proto_encode_control(out, cap, more);
    free(more);
    return n;
}

static void on_ready(void *ctx, const char *link)
{
    (void)ctx;
    printf("{\"event\":\"ready\",\"link\":\"%s\"}\n", link);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    struct fault f = {0};
    if (argc != 5 || addr_parse_ip(&victim, argv[4]) != 0) {
        fprintf(stderr, "usage: credulous LISTEN PUBLIC STATE VICTIM\n");
        return 2;
    }
    const char *listen = argv[1];
    spread = getenv("SPREAD") != NULL;
    struct broker_config c = {.listen = &listen,
                              .listen_count = 1,
                              .public_name = argv[2],
                              .state_dir = argv[3],
                              .on_ready = on_ready};
    int rc = broker_run(&c, &f);
    if (rc != 0)
        fprintf(stderr, "credulous: %s; %s\n", f.what, f.advice);
    return rc == 0 ? 0 : 1;
}
