/*
 * Events: what a command reports on stdout, as one JSON object a line with --json and
 * as plain words otherwise. Names and fields stand in docs/CLI.md and are stable.
 * An event is always built as JSON, so that a daemon can pass it through the local
 * socket, and turned into words only where it is printed.
 *
 *   struct event e;
 *   event_begin(&e, "path");
 *   event_text(&e, "peer", name);
 *   event_rtt(&e, "rtt_ms", rtt_us);
 *   events_print(out, &e);
 */
#ifndef POSTERN_IO_EVENTS_H
#define POSTERN_IO_EVENTS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "core/addr.h"
#include "core/json.h"

#define EVENT_TEXT_LEN 2048 /* fits LocalReply.json */

struct event {
    struct json json;
    char text[EVENT_TEXT_LEN];
};

/* Where events go. Used by one thread; `out` is borrowed. NULL events print nowhere. */
struct events {
    bool json;
    FILE *out;
    bool lasting; /* goes on when nothing can be written */
    int failed;   /* errno of the write that ends the command; 0 */
};

/* The event lives in the caller's memory and must not be moved until it is printed. */
void event_begin(struct event *e, const char *name);
void event_text(struct event *e, const char *name, const char *text);
void event_int(struct event *e, const char *name, int64_t v);
/* Microseconds, written as milliseconds with three decimals at most. */
void event_ms(struct event *e, const char *name, uint64_t us);
/* A round trip; 0 is one that is not known, and becomes null. */
void event_rtt(struct event *e, const char *name, uint32_t rtt_us);
void event_bool(struct event *e, const char *name, bool v);
void event_addr(struct event *e, const char *name, const struct addr *a);
/* For arrays: use the json_ calls on e->json. */

/*
 * Ends the event and returns its JSON text, borrowed from it. An event that did not
 * fit becomes {"event":NAME,"truncated":true}. Calling it twice is harmless.
 */
const char *event_end(struct event *e);

/*
 * Prints one line and flushes it. When that fails the command ends, unless it is a
 * lasting one: in order where a loop runs (io/stop.h), else at once; with status 0 and
 * quietly when the reader is gone (EPIPE), else with 1 and one line on stderr.
 */
void events_print(struct events *out, struct event *e);
/* The same for an event that came as JSON from the local socket (LocalReply.json). */
void events_print_json(struct events *out, const char *json);
/* The words that people see for an event, without a line break; never fails. */
void events_words(const char *json, char *buf, size_t cap);

/*
 * Tells a person about a fault: "postern: WHAT; DO" on stderr, and with --json also
 * {"event":"error","what":...,"do":...} on stdout.
 */
void events_fault(struct events *out, const struct fault *f);

#endif
