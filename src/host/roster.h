/*
 * The host's own list: who may enter and for what, open invites, devices that were
 * revoked, and what `serve` publishes. The broker has no say in it. Time is wall
 * clock seconds and an argument; random bytes of an invite are an argument.
 *
 * Several processes use it at once (invite and revoke while serve runs); each call
 * sees the newest state.
 */
#ifndef POSTERN_HOST_ROSTER_H
#define POSTERN_HOST_ROSTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"
#include "core/key.h"
#include "core/link.h"
#include "host/service.h"

#define ROSTER_NAME_LEN 64
#define ROSTER_ALLOWED_LEN 512
#define ROSTER_SERVICES_LEN 16384
#define ROSTER_EARLIER_MAX 1000 /* keys that a device on the list had before */

/* What who comes by an earlier key is told. */
#define ROSTER_EARLIER                                                                 \
    "this device's key was changed since: use the machine that has the newest one, "   \
    "or "                                                                              \
    "have the device removed first ('postern revoke' at the host)"
#define ROSTER_EARLIER_ADVICE "then ask for a new invite"

struct roster;

struct roster_client {
    uint8_t key[KEY_LEN];
    char name[ROSTER_NAME_LEN];       /* unique on this host */
    char allowed[ROSTER_ALLOWED_LEN]; /* services, comma-separated; "" is all */
    int64_t added_s;
};

struct roster_invite {
    uint8_t secret[LINK_SECRET_LEN];
    char allowed[ROSTER_ALLOWED_LEN];
    int64_t expires_s;
    int32_t uses_left;
};

struct roster_settings {
    char name[ROSTER_NAME_LEN];         /* what clients call this host */
    char broker[LINK_TEXT_LEN];         /* LINK_BROKER text */
    char services[ROSTER_SERVICES_LEN]; /* one SERVICE a line */
    int64_t absent_s; /* how long silent clients are waited for; 0: core/absence.h */
};

/* `dir` is the state directory's path. */
MUST_CHECK int roster_open(struct roster **out, const char *dir, struct fault *f);
/*
 * The same for commands that only speak of what a host has: where none was ever served
 * nothing is made, and POSTERN_ERR_NOTFOUND says so.
 */
MUST_CHECK int roster_open_known(struct roster **out, const char *dir, struct fault *f);
/* NULL is fine. */
void roster_close(struct roster *r);

/* POSTERN_ERR_NOTFOUND when the key is not on the list. `c` may be NULL. */
MUST_CHECK int roster_client_find(struct roster *r, const uint8_t key[static KEY_LEN],
                                  struct roster_client *c);
/* 0, POSTERN_ERR_NOTFOUND (not on the list), or POSTERN_ERR_DENIED (not for this one).
 */
MUST_CHECK int roster_client_allowed(struct roster *r,
                                     const uint8_t key[static KEY_LEN],
                                     const struct service *s);
/* True for a device that was on the list and was removed by `revoke`. */
bool roster_is_revoked(struct roster *r, const uint8_t key[static KEY_LEN]);
/* True for a key that a device on the list had before it changed it. */
bool roster_is_earlier(struct roster *r, const uint8_t key[static KEY_LEN]);
/* In order of joining. Returns how many there are in all, or a negative error. */
MUST_CHECK int roster_clients(struct roster *r, struct roster_client *out, size_t max);
/* All of them, to be freed by free(); returns how many. */
MUST_CHECK int roster_clients_all(struct roster *r, struct roster_client **out);

/* Stores the invite; the caller filled in all fields, the secret with random bytes. */
MUST_CHECK int roster_invite_new(struct roster *r, const struct roster_invite *in,
                                 int64_t now_s, struct fault *f);
/* POSTERN_ERR_NOTFOUND, or POSTERN_ERR_EXPIRED when its time or uses are gone. */
MUST_CHECK int roster_invite_find(struct roster *r,
                                  const uint8_t id[static INVITE_ID_LEN], int64_t now_s,
                                  struct roster_invite *out);
/* Those that are good still, up to `max`, the newest first; returns how many. */
MUST_CHECK int roster_invites_open(struct roster *r, int64_t now_s,
                                   uint8_t secrets[][LINK_SECRET_LEN], size_t max);
/*
 * Uses up one use and puts the device on the list, both or neither, after the caller
 * verified the proof. `name` gets a suffix when it is taken. A device that is on the
 * list already gains the invite's services and uses it up. POSTERN_ERR_EXPIRED or
 * _NOTFOUND as above; _DENIED when the device was revoked after the invite was made;
 * _KEY for the earlier key of a device on the list, which is that device and no other.
 */
MUST_CHECK int roster_invite_consume(struct roster *r,
                                     const uint8_t id[static INVITE_ID_LEN],
                                     const uint8_t key[static KEY_LEN],
                                     const char *name, int64_t now_s, struct fault *f);

/*
 * Takes a device off the list by name, or by four or more characters of its key's
 * text; `c` gets what stood there. Every key that it has had goes with it.
 * POSTERN_ERR_NOTFOUND, or _INVALID when several match. Live sessions are the caller's
 * business.
 */
MUST_CHECK int roster_revoke(struct roster *r, const char *device,
                             struct roster_client *c, int64_t now_s, struct fault *f);
/* The same by its key. */
MUST_CHECK int roster_revoke_key(struct roster *r, const uint8_t key[static KEY_LEN],
                                 struct roster_client *c, int64_t now_s,
                                 struct fault *f);
/*
 * The device follows its key, after the caller verified the old key's signature.
 * POSTERN_ERR_NOTFOUND when the old one is not on the list, _DENIED when the new one
 * was revoked since the device came on it, _INVALID when another device has it or had
 * it, _LIMIT when it had ROSTER_EARLIER_MAX keys before.
 */
MUST_CHECK int roster_rotate(struct roster *r, const uint8_t old_key[static KEY_LEN],
                             const uint8_t new_key[static KEY_LEN]);

/* POSTERN_ERR_NOTFOUND before the first roster_settings_set. */
MUST_CHECK int roster_settings_get(struct roster *r, struct roster_settings *s);
MUST_CHECK int roster_settings_set(struct roster *r, const struct roster_settings *s,
                                   struct fault *f);

/* Is the file at its path the one that is open? As db_check. */
MUST_CHECK int roster_check(struct roster *r, struct fault *f);
/* What a person must know about error `err` of the file; returns `err`. */
int roster_fault(const struct roster *r, int err, struct fault *f);
/* host.db itself, for its other tables (host/lan.h). */
struct db *roster_db(struct roster *r);

/*
 * Grows when another process changed or replaced the list: then look again at live
 * sessions. Never 0, but where it cannot be read.
 */
int64_t roster_version(struct roster *r);

#endif
