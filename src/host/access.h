/*
 * Whom the host lets in without a device of theirs, through the broker's portal: people
 * with accounts, and everybody for the services that are public. In access.db of the
 * state directory. Several processes use it at once; each call sees the newest state.
 * Time is wall clock seconds and an argument; secrets that need luck are too.
 */
#ifndef POSTERN_HOST_ACCESS_H
#define POSTERN_HOST_ACCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"
#include "core/totp.h"
#include "host/roster.h"
#include "host/service.h"

#define ACCESS_NAME_LEN 64
#define ACCESS_HASH_LEN 128 /* as PortalAccount.hash carries it */
#define ACCESS_ACCOUNTS_MAX 64
#define ACCESS_PASSWORD_MIN 8
#define ACCESS_PASSWORD_MAX 256 /* bytes */
#define ACCESS_PATH_LEN 1024
#define ACCESS_COMMAND_LEN 2048
#define ACCESS_ALL "all" /* as a list of services: each one, later ones too */

struct access;

struct access_account {
    char name[ACCESS_NAME_LEN]; /* unique, in upper and lower case */
    char hash[ACCESS_HASH_LEN]; /* argon2id, as crypto_pwhash_str writes it */
    bool code;                  /* asks for a code of `totp` as well */
    uint8_t totp[TOTP_SECRET_LEN];
    char services[ROSTER_ALLOWED_LEN]; /* comma-separated, or ACCESS_ALL; never empty */
    int64_t expires_s;                 /* 0: does not */
    bool owner;
    int64_t serial; /* another after each change; set by access_put */
};

/* `dir` is the state directory's path. */
MUST_CHECK int access_open(struct access **out, const char *dir, struct fault *f);
/* NULL is fine. */
void access_close(struct access *a);

/*
 * Makes an account, or with `change` replaces the one of that name. POSTERN_ERR_INUSE
 * and _NOTFOUND when it is there already or not; _LIMIT when there are too many;
 * _USAGE when the name has characters that no account's may have.
 */
MUST_CHECK int access_put(struct access *a, const struct access_account *account,
                          bool change, struct fault *f);
/* Could an account of this name be made? As access_put, before it is worked out. */
MUST_CHECK int access_check_new(struct access *a, const char *name, struct fault *f);
MUST_CHECK int access_remove(struct access *a, const char *name, struct fault *f);
/* POSTERN_ERR_NOTFOUND without a fault when `f` is NULL. */
MUST_CHECK int access_find(struct access *a, const char *name,
                           struct access_account *out, struct fault *f);
/* By name. Returns how many there are in all, or a negative error. */
MUST_CHECK int access_accounts(struct access *a, struct access_account *out,
                               size_t max);
/* May it use the service now? */
bool access_allows(const struct access_account *account, const struct service *s,
                   int64_t now_s);
/* As service_narrow: leaves in `s`, asked for as `name`, the targets that it may use.
 */
MUST_CHECK bool access_narrow(const struct access_account *account, struct service *s,
                              const char *name, int64_t now_s);

/* Opens a service to everybody, or takes that back; true in `changed` when it was new.
 */
MUST_CHECK int access_set_public(struct access *a, const char *service, bool open,
                                 bool *changed, struct fault *f);
bool access_is_public(struct access *a, const char *service);
/* Returns how many there are in all, or a negative error. */
MUST_CHECK int access_publics(struct access *a, char (*out)[SERVICE_NAME_LEN],
                              size_t max);

/* A service in front of which the host ends TLS. */
struct access_tls {
    char service[SERVICE_NAME_LEN];
    char certificate[ACCESS_PATH_LEN]; /* PEM files, absolute; empty: the command's */
    char key[ACCESS_PATH_LEN];
};

/* Replaces them all. */
MUST_CHECK int access_set_tls(struct access *a, const struct access_tls *list, size_t n,
                              struct fault *f);
/* By service. Returns how many there are in all, or a negative error. */
MUST_CHECK int access_tls(struct access *a, struct access_tls *out, size_t max);
/* The command that gets certificates; "" for none. */
MUST_CHECK int access_set_tls_command(struct access *a, const char *command,
                                      struct fault *f);
MUST_CHECK int access_tls_command(struct access *a,
                                  char out[static ACCESS_COMMAND_LEN]);

/* True when anybody at all may come through the portal. */
bool access_is_open(struct access *a);
/* Grows when another process changed something: then look again at what is open. */
int64_t access_version(struct access *a);
/* As db_keep_copy. */
void access_keep_copy(struct access *a);
/* Is the file at its path the one that is open? As db_check. */
MUST_CHECK int access_check(struct access *a, struct fault *f);
/* What a person must know about error `err` of the file; returns `err`. */
int access_fault(const struct access *a, int err, struct fault *f);

/*
 * What is stored of a password: argon2id of 19 MiB and two passes, so that the broker
 * can afford many at once. It takes tens of milliseconds. POSTERN_ERR_NOMEM.
 */
MUST_CHECK int access_hash(char hash[static ACCESS_HASH_LEN], const char *password);

#endif
