/*
 * What host.db knows of a LAN behind one connection: an agent's token and the hosts it
 * took in, and the agents that this host hands its services to. Random bytes and time
 * are arguments.
 */
#ifndef POSTERN_HOST_LAN_H
#define POSTERN_HOST_LAN_H

#include "host/roster.h"

#define LAN_HOSTS_MAX 64
#define LAN_NAME_LEN 32 /* of an agent's host, with NUL: its instances' name */
#define LAN_PLACE_LEN (LINK_HOST_LEN + 8)

struct lan_host {
    uint8_t key[KEY_LEN];
    char name[LAN_NAME_LEN]; /* unique, and fit for an instance (host/service.h) */
    bool published;          /* once */
};

/* The agent's token; the first time `fresh` becomes it. */
MUST_CHECK int lan_token(struct roster *r, uint8_t token[static LINK_SECRET_LEN],
                         const uint8_t fresh[static LINK_SECRET_LEN]);

/* POSTERN_ERR_NOTFOUND when the agent does not know that key. */
MUST_CHECK int lan_host_find(struct roster *r, const uint8_t key[static KEY_LEN],
                             struct lan_host *out);
/* All of them, the oldest first. */
MUST_CHECK int lan_host_list(struct roster *r,
                             struct lan_host out[static LAN_HOSTS_MAX], size_t *n);
/* Who makes room when all places are taken. */
struct lan_room {
    bool (*is_connected)(void *ctx, const uint8_t key[static KEY_LEN]);
    void *ctx;
    bool left; /* set: `who` was taken off the list */
    struct lan_host who;
};

/*
 * Takes a host in, after the caller saw the token; `name` is made fit and gets a suffix
 * when it is another key's. When there are LAN_HOSTS_MAX, one that never published
 * anything makes room, rather one that is not connected, the oldest of them; its live
 * connections are the caller's business. POSTERN_ERR_LIMIT when there is none.
 */
MUST_CHECK int lan_host_add(struct roster *r, const uint8_t key[static KEY_LEN],
                            const char *name, int64_t now_s, struct lan_room *room,
                            struct lan_host *out);
/*
 * The same for who comes: known by its key, or by the agent's token (NULL: it shows
 * none), and then taken in. POSTERN_ERR_DENIED when it is neither. `fresh` becomes the
 * token where there is none yet.
 */
struct lan_comer {
    uint8_t key[KEY_LEN], fresh[LINK_SECRET_LEN];
    const uint8_t *token;
    const char *name;
    int64_t now_s;
};
MUST_CHECK int lan_host_admit(struct roster *r, const struct lan_comer *c,
                              struct lan_room *room, struct lan_host *out);
/* A service of it was published: place and name are its own until lan_host_forget. */
MUST_CHECK int lan_host_published(struct roster *r, const uint8_t key[static KEY_LEN]);
/*
 * Takes a host off and makes `fresh` the token, so that the link it came with is no way
 * back. POSTERN_ERR_NOTFOUND. Live connections are the caller's business.
 */
MUST_CHECK int lan_host_forget(struct roster *r, const char *name,
                               const uint8_t fresh[static LINK_SECRET_LEN],
                               struct lan_host *out, struct fault *f);

/* Where a link leads, as "HOST:PORT" or "[IPv6]:PORT". */
void lan_place(const struct link *l, char place[static LAN_PLACE_LEN]);
/* The link of an agent met before, by place; NULL: of the one used last. */
MUST_CHECK int lan_agent_find(struct roster *r, const char *place,
                              char link[static LINK_TEXT_LEN]);
/* Remembers the agent of `link`, and that it is the one in use; NULL: none is. */
MUST_CHECK int lan_agent_use(struct roster *r, const struct link *l, struct fault *f);

#endif
