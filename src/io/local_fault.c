/* A daemon does not answer at its socket: why, from its lock and what the socket gave.
 */
#include "io/local_fault.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

int local_fault_silent(const struct statedir *s, const char *role, int err,
                       struct fault *f)
{
    struct statedir_holder h;
    char advice[64] = "end it and start it again";
    (void)statedir_held(s, role, &h);
    if (!h.stopped)
        return fault_set(f, err, advice, "the running 'postern %s' does not answer",
                         role);
    (void)snprintf(advice, sizeof(advice), "let it go on with 'kill -CONT %ld'", h.pid);
    return fault_set(f, err, advice,
                     "the running 'postern %s' is stopped (process %ld) and does not "
                     "answer",
                     role, h.pid);
}

int local_fault_deaf(const struct statedir *s, const char *role, struct fault *f)
{
    struct statedir_holder h;
    if (!statedir_held(s, role, &h))
        return 0;
    return fault_set(f, POSTERN_ERR_CLOSED, "end it and start it again",
                     "'postern %s' runs (process %ld) and cannot be asked: its socket "
                     "is not there",
                     role, h.pid);
}

/* Only root may go on with one of root's, and a third user's is nobody's here. */
static int of_another(const struct statedir *s, const char *role, struct fault *f)
{
    char path[STATEDIR_SOCKET_LEN], advice[sizeof(f->advice)];
    struct stat st;
    statedir_socket(s, role, path);
    if (stat(path, &st) != 0 || st.st_uid != 0 || geteuid() == 0)
        return fault_set(f, POSTERN_ERR_PERM, "run this as the user who started it",
                         "the running 'postern %s' belongs to another user", role);
    (void)snprintf(advice, sizeof(advice), "run this with sudo and --state %.180s",
                   s->path);
    return fault_set(f, POSTERN_ERR_PERM, advice, "the running 'postern %s' is root's",
                     role);
}

int local_fault(const struct statedir *s, const char *role, int err, struct fault *f)
{
    char path[STATEDIR_SOCKET_LEN];
    struct stat st;
    switch (err) {
    case POSTERN_ERR_PERM:
        statedir_socket(s, role, path);
        if (stat(path, &st) == 0 && st.st_uid == geteuid())
            return fault_set(f, err, "end it and start it again",
                             "the socket of the running 'postern %s' is this user's, "
                             "and its mode forbids to use it",
                             role);
        return of_another(s, role, f);
    case POSTERN_ERR_TIMEOUT:
        return local_fault_silent(s, role, err, f);
    case POSTERN_ERR_PROTO:
        return fault_set(f, err, "restart it, so that both are the same version",
                         "the answer of the running 'postern %s' makes no sense", role);
    default:
        return fault_set(f, err, "try again",
                         "the running 'postern %s' ended before it answered", role);
    }
}
