/* `postern up`: stays present, keeps sessions warm, gives each host an address. */
#ifndef POSTERN_CLIENT_UP_H
#define POSTERN_CLIENT_UP_H

#include "client/client.h"
#include "client/naming.h"

/* Runs until a signal or LOCAL_STOP. */
/* `metrics`: where figures are shown (io/scrape.h); NULL: nowhere. */
MUST_CHECK int up_run(const struct client_config *c, enum naming_way names,
                      const char *metrics, struct fault *f);

#endif
