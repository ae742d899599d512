/* capget and capset by their system calls: there is no more to it. */
#include "io/caps.h"

#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { WORDS = 2 };

static bool get(struct __user_cap_data_struct data[static WORDS])
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    return syscall(SYS_capget, &head, data) == 0;
}

bool caps_have(uint64_t mask)
{
    struct __user_cap_data_struct data[WORDS] = {0};
    if (!get(data))
        return false;
    uint64_t have = data[0].effective | (uint64_t)data[1].effective << 32;
    return (have & mask) == mask;
}

void caps_keep(uint64_t mask)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[WORDS] = {0};
    (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (!get(data))
        return;
    for (int i = 0; i < WORDS; i++) {
        uint32_t word = (uint32_t)(mask >> 32 * i);
        data[i].permitted &= word;
        data[i].effective = data[i].permitted;
        data[i].inheritable = 0;
    }
    (void)syscall(SYS_capset, &head, data);
}
