/* What `postern send` is to send: files and directories, found before anything goes. */
#ifndef POSTERN_CLIENT_SEND_LIST_H
#define POSTERN_CLIENT_SEND_LIST_H

#include <sys/stat.h>

#include "core/transfer.h"

struct send_item {
    char *from; /* its path here; owned */
    struct transfer_file file;
    struct timespec mtime; /* to the nanosecond: has it changed meanwhile? */
    uint64_t bytes;        /* stored here, holes left out */
    uint64_t have;         /* blocks of a part that the other end has */
    bool whole;            /* one of that size is there; it may be the same */
    bool stored, failed;
    uint8_t hash[TRANSFER_HASH_LEN]; /* of those */
};

struct send_list {
    struct send_item *items; /* owned */
    size_t count, room;
    size_t passed_over; /* what cannot be read: a warning was logged for each */
    size_t odd;         /* links, sockets, ...: a warning was logged for the first */
};

/*
 * A file, or a directory with all that is in it. Symbolic links, sockets and the like
 * in it are passed over, as by rsync and cp; one that was named is a fault. So is a
 * state directory with its private key passed over, unless it was named.
 */
MUST_CHECK int send_list_add(struct send_list *l, const char *path, struct fault *f);
/* Once all are added: how many links and the like were not warned of. */
void send_list_tell_odd(const struct send_list *l);
void send_list_fini(struct send_list *l);

#endif
