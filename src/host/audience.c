/* Looks names up in the host's two lists; changes nothing. */
#include "host/audience.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <sodium.h>

#include "host/access.h"

enum { DEVICES_MAX = 4096 };

static bool is_device(const struct roster_client *list, int count, const char *name)
{
    for (int i = 0; i < count; i++)
        if (strcasecmp(list[i].name, name) == 0)
            return true;
    return false;
}

static bool is_account(struct access *a, const char *name)
{
    struct access_account found;
    bool yes = access_find(a, name, &found, NULL) == 0;
    sodium_memzero(&found, sizeof(found));
    return yes;
}

static int check(struct roster *r, struct access *a, const char *audience,
                 char unknown[static ROSTER_NAME_LEN], struct fault *f)
{
    struct roster_client *list = calloc(DEVICES_MAX, sizeof(*list));
    int count = list != NULL ? roster_clients(r, list, DEVICES_MAX) : 0, rc = 0;
    while (*audience != '\0' && rc == 0) {
        audience += strspn(audience, " ,");
        size_t len = strcspn(audience, " ,");
        (void)snprintf(unknown, ROSTER_NAME_LEN, "%.*s", (int)len, audience);
        if (len > 0 &&
            !is_device(list, count < DEVICES_MAX ? count : DEVICES_MAX, unknown) &&
            !is_account(a, unknown))
            rc = fault_set(f, POSTERN_ERR_NOTFOUND,
                           "see 'postern ls --devices' and 'postern access'",
                           "no device and no account is called '%s'", unknown);
        audience += len;
    }
    free(list);
    return rc;
}

int audience_check(const struct statedir *state, const char *audience,
                   char unknown[static ROSTER_NAME_LEN], struct fault *f)
{
    struct roster *r = NULL;
    struct access *a = NULL;
    unknown[0] = '\0';
    int rc = statedir_check_beside(state, "serve", "host.db", f);
    if (rc == 0)
        rc = statedir_check_beside(state, "serve", "access.db", f);
    if (rc == 0)
        rc = roster_open(&r, state->path, f);
    if (rc == 0)
        rc = access_open(&a, state->path, f);
    if (rc == 0)
        rc = check(r, a, audience, unknown, f);
    access_close(a);
    roster_close(r);
    return rc;
}
