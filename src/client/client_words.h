/* What the client commands say of a peer in the same words. */
#ifndef POSTERN_CLIENT_CLIENT_WORDS_H
#define POSTERN_CLIENT_CLIENT_WORDS_H

#include "client/book.h"
#include "client/peer.h"
#include "core/link.h"
#include "io/events.h"

/* What a host shows, as the book has it; how many. */
size_t client_services(const Services *m,
                       struct book_service list[static BOOK_SERVICE_MAX]);
/* The `path`, `rejected`, `relayed` and `back` events, as the engine prints them. */
void client_path_event(struct event *e, const struct peer *peer,
                       const struct path *path);
void client_rejected_event(struct event *e, const char *peer, enum path_kind kind,
                           const char *reason);
void client_relayed_event(struct event *e, const char *peer, enum path_kind kind,
                          const char *reason);
void client_back_event(struct event *e, const char *peer, unsigned silent_s);
/*
 * What the host said of one of our keys, kept while the others are tried: `again` there
 * is one from before. That this device was removed tells more than that a key is not
 * known. Returns `kept`.
 */
const struct fault *client_keep_refusal(struct fault *kept, const struct fault *f,
                                        bool again);
/* This machine's name, as a device shows itself: up to the first dot. */
void client_device_name(char name[static 64]);
bool client_same_broker(const struct link *a, const struct link *b);

#endif
