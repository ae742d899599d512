/*
 * What devices may still do: budgets by device key, which connecting again does not
 * refill, and who may be introduced to a host when too many want to be. Time is an
 * argument. All of it is bounded, and forgets first what was not used for longest.
 */
#ifndef POSTERN_BROKER_ADMISSION_H
#define POSTERN_BROKER_ADMISSION_H

#include <stdbool.h>
#include <stdint.h>

#include "broker/ledger.h"
#include "broker/limits.h"
#include "core/addr.h"

struct admission {
    struct ledger devices;   /* by device key */
    struct ledger hosts;     /* by the host's key: introductions in sum */
    struct ledger accepted;  /* by host and client: the host accepted that client */
    struct ledger strangers; /* by host and block of addresses: when one came through */
};

enum admission_role { ADMISSION_CLIENT, ADMISSION_HOST, ADMISSION_ROLES };

MUST_CHECK int admission_init(struct admission *a,
                              const uint8_t secret[static KEYMAP_SECRET_LEN]);
/* Harmless when all is zero. */
void admission_fini(struct admission *a);

/* True when the device may send a message, carry so many bytes, introduce itself. */
bool admission_message(struct admission *a, const uint8_t key[static KEY_LEN],
                       enum admission_role role, uint64_t now_ms);
bool admission_carry(struct admission *a, const uint8_t key[static KEY_LEN],
                     enum admission_role role, uint32_t bytes, uint64_t now_ms);
bool admission_introduce(struct admission *a, const uint8_t key[static KEY_LEN],
                         uint64_t now_ms);

/*
 * True when this introduction is passed to the host. Clients that it accepted before
 * have a budget of their own. Of strangers, the more come in sum the longer one address
 * must wait for its next: the first of each address passes first. None passes while the
 * host has much to read.
 */
bool admission_pass(struct admission *a, const uint8_t host[static KEY_LEN],
                    const uint8_t client[static KEY_LEN], const struct addr *from,
                    bool host_is_slow, uint64_t now_ms);
/*
 * True when so many bytes of a Signal or Carry are passed to the host in a session that
 * it has not accepted.
 */
bool admission_say(struct admission *a, const uint8_t host[static KEY_LEN],
                   const uint8_t client[static KEY_LEN], uint32_t bytes,
                   uint64_t now_ms);
/*
 * The host accepted this client, which came from there. When it is the first time (it
 * joins), the next stranger of its address need not wait: they are no crowd.
 */
void admission_accepted(struct admission *a, const uint8_t host[static KEY_LEN],
                        const uint8_t client[static KEY_LEN], const struct addr *from);

#endif
