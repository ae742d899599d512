/*
 * A hostile broker: the real one, but that it vouches for a victim's address in every
 * message that it delivers. Linked with --wrap=broker_vouch.
 *
 *   credulous LISTEN PUBLIC STATE VICTIM
 */
#include <stdio.h>
#include <string.h>

#include "broker/broker.h"
#include "broker/vouch.h"

static struct addr victim; /* the one thing that it cannot be told otherwise */

void __wrap_broker_vouch(const uint8_t *secret, const struct addr *seen, Vouch *list,
                         pb_size_t *count, pb_size_t max);

void __wrap_broker_vouch(const uint8_t *secret, const struct addr *seen, Vouch *list,
                         pb_size_t *count, pb_size_t max)
{
    (void)secret, (void)seen, (void)max;
    *count = 1;
    list[0] = (Vouch){.port = 1, .ip.size = (pb_size_t)addr_ip_len(&victim)};
    memcpy(list[0].ip.bytes, victim.ip, list[0].ip.size);
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
