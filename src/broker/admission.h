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
    struct ledger told;      /* by host and client: what the one says to the other */
    uint64_t aged_ms;        /* budgets of whom nobody heard since were forgotten */
};

enum admission_role { ADMISSION_CLIENT, ADMISSION_HOST, ADMISSION_ROLES };

MUST_CHECK int admission_init(struct admission *a,
                              const uint8_t secret[static KEYMAP_SECRET_LEN]);
/* Harmless when all is zero. */
void admission_fini(struct admission *a);

/* Call now and then: forgets budgets that are whole again, as those of strangers are,
 * and says how many. */
size_t admission_sweep(struct admission *a, uint64_t now_ms);

/* True when the device may send a message, carry so many bytes, introduce itself. */
bool admission_message(struct admission *a, const uint8_t key[static KEY_LEN],
                       enum admission_role role, uint64_t now_ms);
bool admission_carry(struct admission *a, const uint8_t key[static KEY_LEN],
                     enum admission_role role, uint32_t bytes, uint64_t now_ms);
bool admission_introduce(struct admission *a, const uint8_t key[static KEY_LEN],
                         uint64_t now_ms);
/* True when its badge counts once more. */
bool admission_badge(struct admission *a, const uint8_t key[static KEY_LEN],
                     uint64_t now_ms);
/* True when its invite's pass may be looked at, though its address has had its share.
 */
bool admission_show(struct admission *a, const uint8_t key[static KEY_LEN],
                    uint64_t now_ms);

/*
 * The host accepted that client before, as far as it is remembered, and has not said
 * since that it does not know it.
 */
bool admission_knows(struct admission *a, const uint8_t host[static KEY_LEN],
                     const uint8_t client[static KEY_LEN]);
/*
 * True when one more introduction may go to the host: of those it knows, who have a
 * budget of their own, or of strangers. Whose turn it is among strangers: broker/lobby.
 */
bool admission_pass(struct admission *a, const uint8_t host[static KEY_LEN], bool known,
                    uint64_t now_ms);
/* A stranger's would be passed. */
bool admission_may_pass(struct admission *a, const uint8_t host[static KEY_LEN],
                        uint64_t now_ms);
/*
 * When a stranger from there was last introduced to the host: of the widest block of
 * addresses, then the narrower; 0: never, as far as it is remembered.
 */
void admission_passed(struct admission *a, const uint8_t host[static KEY_LEN],
                      const struct addr *from, uint64_t passed_ms[static ADDR_LEVELS]);
/* The same of one who showed that pass of an invite. */
uint64_t admission_pass_used(struct admission *a, const uint8_t host[static KEY_LEN],
                             const uint8_t pass[static KEY_LEN]);
void admission_note_pass(struct admission *a, const uint8_t host[static KEY_LEN],
                         const uint8_t pass[static KEY_LEN], uint64_t now_ms);
/* One is introduced now. */
void admission_note_passed(struct admission *a, const uint8_t host[static KEY_LEN],
                           const struct addr *from, uint64_t now_ms);
/*
 * True when so many bytes of a Signal or Carry are passed to the host in a session that
 * it has not accepted.
 */
bool admission_say(struct admission *a, const uint8_t host[static KEY_LEN], bool known,
                   uint32_t bytes, uint64_t now_ms);
/*
 * True when so many bytes of hosts are passed to the client in an approach of which its
 * connection has not spoken: all hosts together.
 */
bool admission_tell(struct admission *a, const uint8_t client[static KEY_LEN],
                    uint32_t bytes, uint64_t now_ms);
/* The same in approaches of which it has spoken: of that host. */
bool admission_tell_asked(struct admission *a, const uint8_t host[static KEY_LEN],
                          const uint8_t client[static KEY_LEN], enum said said,
                          uint32_t bytes, uint64_t now_ms);
/* The same of spoken codes, whoever says it. */
bool admission_tell_spoken(struct admission *a, const uint8_t client[static KEY_LEN],
                           uint32_t bytes, uint64_t now_ms);
/*
 * The host accepted this client, which came from there. When it is the first time (it
 * joins), the next stranger of its address need not wait: they are no crowd.
 */
void admission_accepted(struct admission *a, const uint8_t host[static KEY_LEN],
                        const uint8_t client[static KEY_LEN], const struct addr *from);
/* The client has proven that the host listed it: as if it had been accepted here. */
void admission_recall(struct admission *a, const uint8_t host[static KEY_LEN],
                      const uint8_t client[static KEY_LEN]);
/* The host says that it does not know it, be it that it did: no badge says otherwise.
 */
void admission_disown(struct admission *a, const uint8_t host[static KEY_LEN],
                      const uint8_t client[static KEY_LEN]);

#endif
