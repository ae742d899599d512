/* Runs a broker alone, without the command line: for load tests and the bench. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/broker.h"
#include "io/log.h"

static void on_ready(void *ctx, const char *link)
{
    (void)ctx;
    printf("%s\n", link);
    fflush(stdout);
}

static int usage(void)
{
    fprintf(stderr, "usage: brokerd [-l ADDR:PORT] [-p PUBLIC] [-s DIR] [-t THREADS] "
                    "[-a ALTERNATE] [-o open] [-n no address limits] [-v verbose]\n");
    return 2;
}

int main(int argc, char **argv)
{
    const char *listen = "127.0.0.1:0";
    struct broker_config c = {.listen = &listen,
                              .listen_count = 1,
                              .state_dir = "/tmp/postern-brokerd",
                              .on_ready = on_ready};
    int opt;
    while ((opt = getopt(argc, argv, "l:p:s:t:a:onv")) != -1) {
        switch (opt) {
        case 'l':
            listen = optarg;
            break;
        case 'p':
            c.public_name = optarg;
            break;
        case 's':
            c.state_dir = optarg;
            break;
        case 't':
            c.threads = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 'a':
            c.stun_alternate = optarg;
            break;
        case 'o':
            c.open = true;
            break;
        case 'n':
            c.no_address_limits = true;
            break;
        case 'v':
            log_set_level(LOG_LEVEL_DEBUG);
            break;
        default:
            return usage();
        }
    }
    struct fault f = {0};
    int rc = broker_run(&c, &f);
    if (rc != 0)
        fprintf(stderr, "brokerd: %s; %s\n", f.what, f.advice);
    return rc == 0 ? 0 : 1;
}
