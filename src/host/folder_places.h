/*
 * The connections to a shared directory: whose each is, and since when it asks for
 * nothing. libmicrohttpd carries them; here it is decided who goes when places or time
 * run out.
 */
#ifndef POSTERN_HOST_FOLDER_PLACES_H
#define POSTERN_HOST_FOLDER_PLACES_H

#include <microhttpd.h>

#include "core/err.h"
#include "core/list.h"

enum {
    PLACES_MAX = 200,
    PLACES_DEVICE_MAX = 64,
    PLACES_ENDING_MAX = 1024, /* ended here, which libmicrohttpd has not seen yet */
    PLACES_SILENT_MS = 30000, /* for the head of a request, the next one's too */
};

struct places {
    struct list all; /* struct place, by age */
    unsigned count;  /* of those that were not ended */
    uint64_t now_ms; /* the caller keeps it */
};

void places_init(struct places *p);
void places_fini(struct places *p);
/*
 * `fd` of `who` is going to libmicrohttpd. Where its device or the table is full, one
 * of the device that has most goes: who asks for nothing first, and of these the
 * oldest.
 */
MUST_CHECK int places_add(struct places *p, int fd, const char *who);
/* libmicrohttpd did not take what was added last. */
void places_refused(struct places *p);
/* For MHD_OPTION_NOTIFY_CONNECTION, with the struct places. */
void places_notify(void *places, struct MHD_Connection *http, void **of_connection,
                   enum MHD_ConnectionNotificationCode what);
/* A request came; it was answered. */
void places_asked(struct MHD_Connection *http);
void places_answered(struct places *p, struct MHD_Connection *http);
/* Ends those that ask for nothing for too long, bytes or not. */
void places_sweep(struct places *p);

#endif
