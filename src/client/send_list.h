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
    size_t passed_over; /* links, sockets, ...: a warning was logged for each */
};

/*
 * A file, or a directory with all that is in it. Symbolic links are passed over; one
 * that was named is a fault.
 */
MUST_CHECK int send_list_add(struct send_list *l, const char *path, struct fault *f);
void send_list_fini(struct send_list *l);

#endif
