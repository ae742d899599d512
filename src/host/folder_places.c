/* Places of a shared directory, by device; see folder_places.h. */
#include "host/folder_places.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/log.h"
#include "io/sock.h"

struct place {
    struct list link;
    int fd; /* libmicrohttpd's */
    char who[64];
    uint64_t silent_since_ms;
    bool asks;
    bool ended; /* libmicrohttpd will find out */
};

void places_init(struct places *p)
{
    *p = (struct places){.count = 0};
    list_init(&p->all);
}

static void place_free(struct places *p, struct place *one)
{
    p->count -= !one->ended;
    list_remove(&one->link);
    free(one);
}

void places_fini(struct places *p)
{
    while (!list_empty(&p->all))
        place_free(p, LIST_FIRST(&p->all, struct place, link));
}

static void place_end(struct places *p, struct place *one, const char *why)
{
    if (one->ended)
        return;
    log_debug("a connection of %s is ended: %s", one->who, why);
    one->ended = true;
    p->count--;
    sock_end(one->fd);
}

static unsigned count_of(const struct places *p, const char *who)
{
    unsigned n = 0;
    LIST_EACH (const struct place, one, &p->all, link)
        n += !one->ended && strcmp(one->who, who) == 0;
    return n;
}

static void end_one_of(struct places *p, const char *who, const char *why)
{
    struct place *least = NULL;
    LIST_EACH (struct place, one, &p->all, link)
        if (!one->ended && strcmp(one->who, who) == 0 &&
            (least == NULL || one->asks < least->asks ||
             (one->asks == least->asks &&
              one->silent_since_ms < least->silent_since_ms)))
            least = one;
    if (least != NULL)
        place_end(p, least, why);
}

static void make_room(struct places *p, const char *who)
{
    const char *greatest = who;
    unsigned most = count_of(p, who);
    if (most >= PLACES_DEVICE_MAX) {
        end_one_of(p, who, "its device has too many");
        return;
    }
    if (p->count < PLACES_MAX)
        return;
    LIST_EACH (const struct place, one, &p->all, link) {
        unsigned n = one->ended ? 0 : count_of(p, one->who);
        if (n > most) {
            most = n;
            greatest = one->who;
        }
    }
    end_one_of(p, greatest, "others have too few");
}

/* One that libmicrohttpd dropped untold is in the way of its descriptor's next owner.
 */
static struct place *find(struct places *p, int fd)
{
    LIST_EACH (struct place, one, &p->all, link)
        if (one->fd == fd)
            return one;
    return NULL;
}

int places_add(struct places *p, int fd, const char *who)
{
    struct place *stale = find(p, fd);
    struct place *one = calloc(1, sizeof(*one));
    if (one == NULL)
        return POSTERN_ERR_NOMEM;
    if (stale != NULL)
        place_free(p, stale);
    (void)snprintf(one->who, sizeof(one->who), "%s", who);
    make_room(p, one->who);
    one->fd = fd;
    one->silent_since_ms = p->now_ms;
    list_push(&p->all, &one->link);
    p->count++;
    return 0;
}

void places_refused(struct places *p)
{
    if (!list_empty(&p->all))
        place_free(p, LIST_LAST(&p->all, struct place, link));
}

void places_notify(void *places, struct MHD_Connection *http, void **of_connection,
                   enum MHD_ConnectionNotificationCode what)
{
    struct places *p = places;
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *socket =
            MHD_get_connection_info(http, MHD_CONNECTION_INFO_CONNECTION_FD);
        *of_connection = socket != NULL ? find(p, socket->connect_fd) : NULL;
    } else if (*of_connection != NULL) {
        place_free(p, *of_connection);
        *of_connection = NULL;
    }
}

static struct place *place_of(struct MHD_Connection *http)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(http, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info != NULL ? info->socket_context : NULL;
}

void places_asked(struct MHD_Connection *http)
{
    struct place *one = place_of(http);
    if (one != NULL)
        one->asks = true;
}

void places_answered(struct places *p, struct MHD_Connection *http)
{
    struct place *one = place_of(http);
    if (one == NULL)
        return;
    one->asks = false;
    one->silent_since_ms = p->now_ms;
}

void places_sweep(struct places *p)
{
    LIST_EACH (struct place, one, &p->all, link)
        if (!one->asks && p->now_ms - one->silent_since_ms > PLACES_SILENT_MS)
            place_end(p, one, "it asked for nothing for long");
}
