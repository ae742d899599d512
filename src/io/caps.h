/* Linux capabilities (capabilities(7)) of this process: which it has, which it keeps.
 */
#ifndef POSTERN_IO_CAPS_H
#define POSTERN_IO_CAPS_H

#include <stdbool.h>
#include <stdint.h>

#define CAPS_CHOWN (UINT64_C(1) << 0)
#define CAPS_DAC_OVERRIDE (UINT64_C(1) << 1)
#define CAPS_DAC_READ_SEARCH (UINT64_C(1) << 2)
#define CAPS_FOWNER (UINT64_C(1) << 3)
#define CAPS_NET_BIND_SERVICE (UINT64_C(1) << 10)
#define CAPS_NET_ADMIN (UINT64_C(1) << 12)
#define CAPS_NET_RAW (UINT64_C(1) << 13)

/* Effective. */
bool caps_have(uint64_t mask);
/*
 * Gives up all others for good: a program started from here gains none either
 * (no_new_privs).
 */
void caps_keep(uint64_t mask);

#endif
