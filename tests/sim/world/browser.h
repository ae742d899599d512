/*
 * What a browser does of the portal: one request, over a TLS connection of its own,
 * from a task that may block. Knows no pages.
 */
#ifndef POSTERN_SIM_BROWSER_H
#define POSTERN_SIM_BROWSER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BROWSER_PAGE = 64 * 1024, BROWSER_COOKIE = 128 };

struct browser {
    char cookie[BROWSER_COOKIE]; /* "" or NAME=VALUE of the login */
    unsigned status;             /* of the last answer; 0: none came */
    char page[BROWSER_PAGE];     /* head and body */
};

/* `form` NULL: GET. The broker's address and port are the town's. */
void browser_ask(struct browser *b, const char *path, const char *form);
/* The value of the first hidden field of that name; false: there is none. */
bool browser_field(const struct browser *b, const char *name, char *out, size_t cap);

enum browser_hello { HELLO_ANSWERED, HELLO_DENIED, HELLO_LOST };
/* Asks for that name by TLS: something came back, or the alert access_denied, or no
 * word. */
enum browser_hello browser_hello(const char *server_name);
/* The first message of a handshake that is not gone on with. A descriptor, or -1. */
int browser_knock(void);

/* A connection to that port of the broker's, or -1. */
int browser_dial(uint16_t port);

#endif
