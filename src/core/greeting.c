/* The greeting's bytes. */
#include "core/greeting.h"

#include <string.h>

#include <sodium.h>

void greeting_make(uint8_t out[static GREETING_LEN],
                   const uint8_t key[static GREETING_KEY_LEN], bool from_client,
                   enum path_kind kind)
{
    static const char label[] = "postern greeting";
    const char *name = path_kind_name(kind);
    const uint8_t role = from_client ? 1 : 2;
    crypto_generichash_state st;
    (void)crypto_generichash_init(&st, key, GREETING_KEY_LEN, GREETING_LEN);
    (void)crypto_generichash_update(&st, (const uint8_t *)label, sizeof(label) - 1);
    (void)crypto_generichash_update(&st, &role, 1);
    (void)crypto_generichash_update(&st, (const uint8_t *)name, strlen(name));
    (void)crypto_generichash_final(&st, out, GREETING_LEN);
}

bool greeting_is(const uint8_t got[static GREETING_LEN],
                 const uint8_t key[static GREETING_KEY_LEN], bool from_client,
                 enum path_kind kind)
{
    uint8_t want[GREETING_LEN];
    greeting_make(want, key, from_client, kind);
    return sodium_memcmp(got, want, GREETING_LEN) == 0;
}
