/* Connections of browsers, by what they proved; see web_conns.h. */
#include "portal/web_conns.h"

#include <stdlib.h>
#include <sys/resource.h>

#include "io/sock.h"
#include "io/sockaddr.h"
#include "portal/crowd.h"

enum {
    SHARE_OF_DESCRIPTORS = 24, /* an eighth of all, at three a connection */
    VICTIMS_SEEN = 16,         /* of the oldest; it is done for each newcomer */
};

enum proof { PROOF_NONE, PROOF_REQUEST, PROOF_LOGIN };

struct web_conn {
    struct list link;
    struct addr from;
    int fd; /* libmicrohttpd's */
    enum proof proof;
    uint64_t owes_since_ms;
    bool ended; /* libmicrohttpd will find out */
};

void web_conns_init(struct web_conns *c)
{
    struct rlimit r = {.rlim_cur = 1024};
    (void)getrlimit(RLIMIT_NOFILE, &r);
    list_init(&c->all);
    c->count = 0;
    c->max = r.rlim_cur / SHARE_OF_DESCRIPTORS < WEB_CONNS_MAX
                 ? (unsigned)(r.rlim_cur / SHARE_OF_DESCRIPTORS)
                 : WEB_CONNS_MAX;
}

static void conn_end(struct web_conns *c, struct web_conn *w)
{
    if (w->ended)
        return;
    w->ended = true;
    c->count--;
    sock_end(w->fd);
    if (c->on_end != NULL)
        c->on_end(c->ctx, w->fd);
}

/* Ends the oldest of those that proved least, no farther from `from` than `level`. */
static void end_least(struct web_conns *c, const struct addr *from, unsigned level)
{
    struct web_conn *least = NULL;
    LIST_EACH (struct web_conn, w, &c->all, link) {
        if (!w->ended && crowd_distance(from, &w->from) <= level &&
            (least == NULL || w->proof < least->proof))
            least = w;
    }
    if (least != NULL)
        conn_end(c, least);
}

static bool is_unproven(const struct web_conn *w)
{
    return !w->ended && w->proof == PROOF_NONE;
}

unsigned web_conns_unproven(const struct web_conns *c)
{
    unsigned n = 0;
    LIST_EACH (const struct web_conn, w, &c->all, link)
        n += is_unproven(w);
    return n;
}

/* How large a share of the unproven is its address's, or its block's by its size. */
static unsigned weight(struct web_conns *c, const struct web_conn *of)
{
    struct crowd crowd = {.around = of->from};
    unsigned most = 0;
    LIST_EACH (const struct web_conn, w, &c->all, link)
        if (is_unproven(w))
            crowd_add(&crowd, &w->from);
    for (unsigned level = 0; level < CROWD_LEVELS; level++)
        if (crowd.count[level] >> 2 * level > most)
            most = crowd.count[level] >> 2 * level;
    return most;
}

static void end_unproven(struct web_conns *c)
{
    struct web_conn *heaviest = NULL;
    unsigned most = 0, seen = 0;
    LIST_EACH (struct web_conn, w, &c->all, link) {
        unsigned its = is_unproven(w) ? weight(c, w) : 0;
        seen += its > 0;
        if (seen > VICTIMS_SEEN)
            break;
        if (its > most) {
            heaviest = w;
            most = its;
        }
    }
    if (heaviest != NULL)
        conn_end(c, heaviest);
}

void web_conns_make_room(struct web_conns *c, const struct addr *from)
{
    struct crowd crowd = {.around = *from};
    LIST_EACH (const struct web_conn, w, &c->all, link)
        if (!w->ended)
            crowd_add(&crowd, &w->from);
    unsigned level = crowd_full(&crowd, WEB_CONNS_ADDRESS_MAX);
    unsigned unproven = web_conns_unproven(c);
    if (level == CROWD_LEVELS && unproven > 0 &&
        (unproven >= WEB_UNPROVEN_MAX || c->count >= c->max))
        end_unproven(c);
    else if (level < CROWD_LEVELS || c->count >= c->max)
        end_least(c, from, level);
}

static void conn_begin(struct web_conns *c, struct MHD_Connection *http,
                       void **of_connection)
{
    const union MHD_ConnectionInfo *who =
        MHD_get_connection_info(http, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const union MHD_ConnectionInfo *socket =
        MHD_get_connection_info(http, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct web_conn *w = calloc(1, sizeof(*w));
    if (w == NULL || who == NULL || socket == NULL ||
        sockaddr_to_addr(&w->from, who->client_addr) != 0) {
        free(w); /* libmicrohttpd's own bounds remain */
        return;
    }
    w->fd = socket->connect_fd;
    w->owes_since_ms = c->now_ms;
    if (c->is_known != NULL && c->is_known(c->ctx, &w->from))
        w->proof = PROOF_REQUEST;
    list_push(&c->all, &w->link);
    c->count++;
    *of_connection = w;
}

void web_conns_notify(void *conns, struct MHD_Connection *http, void **of_connection,
                      enum MHD_ConnectionNotificationCode what)
{
    struct web_conns *c = conns;
    struct web_conn *w = *of_connection;
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        conn_begin(c, http, of_connection);
    } else if (w != NULL) {
        c->count -= !w->ended;
        list_remove(&w->link);
        free(w);
        *of_connection = NULL;
    }
}

void web_conns_answered(struct web_conns *c, struct MHD_Connection *http,
                        bool logged_in)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(http, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct web_conn *w = info != NULL ? info->socket_context : NULL;
    if (w == NULL)
        return;
    w->owes_since_ms = c->now_ms;
    w->proof = logged_in ? PROOF_LOGIN : PROOF_REQUEST;
}

void web_conns_sweep(struct web_conns *c)
{
    LIST_EACH (struct web_conn, w, &c->all, link)
        if (c->now_ms - w->owes_since_ms > WEB_REQUEST_MS)
            conn_end(c, w);
}
